"""Crop, flip and normalisation of a batch. The caller makes the random draws.

Shapes: B a batch, C channels, H and W pixels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def shift_and_flip(
    images_BCHW: Tensor, shift_B2: Tensor | None, flip_B: Tensor | None, pad: int
) -> Tensor:
    """Pad each image with zeros, crop it to its old size, and mirror it. (B, C, H, W)

    Args:
        shift_B2: top and left edge of the crop, in [0, 2·pad]; None for no crop.
        flip_B: bool, which images are mirrored left to right; None for none.
        pad: pixels of padding on each side, as torchvision's RandomCrop(H, padding=pad).
    """
    if shift_B2 is None and flip_B is None:
        return images_BCHW
    B, _, H, W = images_BCHW.shape
    device = images_BCHW.device
    y_BH = torch.arange(H, device=device).expand(B, H)
    x_BW = torch.arange(W, device=device).expand(B, W)
    if flip_B is not None:
        x_BW = torch.where(flip_B[:, None], W - 1 - x_BW, x_BW)
    if shift_B2 is not None:
        images_BCHW = F.pad(images_BCHW, (pad, pad, pad, pad))
        y_BH, x_BW = y_BH + shift_B2[:, :1], x_BW + shift_B2[:, 1:]
    rows_B11 = torch.arange(B, device=device).view(B, 1, 1)
    # channels_last, the format of the convolutions: the channels of a pixel are copied together
    cut_BHWC = images_BCHW.permute(0, 2, 3, 1)[rows_B11, y_BH.view(B, H, 1), x_BW.view(B, 1, W)]
    return cut_BHWC.permute(0, 3, 1, 2)


def normalise(images_BCHW: Tensor, mean_C: Tensor, std_C: Tensor) -> Tensor:
    """(pixel/255 - mean) / std per channel, from uint8 to float32. (B, C, H, W)"""
    scale_C, offset_C = 1 / (255 * std_C), -mean_C / std_C
    return images_BCHW.float() * scale_C.view(-1, 1, 1) + offset_C.view(-1, 1, 1)
