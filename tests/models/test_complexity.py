from __future__ import annotations

import subprocess
import sys

import pytest

import segnext
from segnext.errors import ConfigError
from segnext.models.complexity import Macs, complexity

# torchprofile's figures for the official model (batch 1, evaluation mode); the last three units of `multiply`
# are scalar products of sizes in its trace (H·W, B·S, B·S), which this package does not count.
SCALARS_IN_TRACE = 3
ADE = {
    "tiny": Macs(6_102_417_408, 301_924_352, 165_150_720, 10_547_203, 12_845_056),
    "small": Macs(15_344_336_896, 301_924_352, 173_015_040, 14_774_275, 18_743_296),
    "base": Macs(32_097_828_864, 2_564_816_896, 173_015_040, 29_720_579, 30_539_776),
    "large": Macs(64_807_698_432, 4_877_975_552, 173_015_040, 47_841_283, 48_758_784),
}
CITYSCAPES = {
    "tiny": Macs(47_720_431_616, 2_408_513_536, 222_298_112, 84_176_899, 102_760_448),
    "small": Macs(121_655_787_520, 2_408_513_536, 285_212_672, 117_993_475, 149_946_368),
    "base": Macs(254_584_815_616, 20_298_334_208, 285_212_672, 236_158_979, 244_318_208),
    "large": Macs(514_065_956_864, 38_583_402_496, 285_212_672, 379_518_979, 390_070_272),
}
TOTALS_ADE = {
    "tiny": 6_592_884_739,
    "small": 15_852_793_859,
    "base": 34_895_921_155,
    "large": 69_955_289_091,
}
TOTALS_CITYSCAPES = {
    "tiny": 50_538_180_611,
    "small": 124_617_453_571,
    "base": 275_648_839_683,
    "large": 553_704_161_283,
}
PARAMS = {  # 150 classes, 19 classes, backbone alone
    "tiny": (4_263_414, 4_229_747, 3_903_584),
    "small": (13_932_886, 13_899_219, 13_450_176),
    "base": (27_636_310, 27_569_107, 26_277_824),
    "large": (48_926_550, 48_792_275, 44_636_864),
}


@pytest.mark.parametrize("name", PARAMS)
def test_parameters_are_those_of_the_official_model(name: str) -> None:
    with_150, with_19, backbone = PARAMS[name]
    counted = complexity(name, num_classes=150, height=512, width=512)
    assert counted.params == with_150
    assert complexity(name, num_classes=19, height=512, width=512).params == with_19
    assert counted.modules.children[0].name == "backbone"
    assert counted.modules.children[0].params == backbone


@pytest.mark.parametrize("name", ADE)
def test_macs_at_512x512_are_torchprofiles_kind_by_kind(name: str) -> None:
    counted = complexity(name, num_classes=150, height=512, width=512)
    assert counted.by_kind + Macs(multiply=SCALARS_IN_TRACE) == ADE[name]
    assert counted.macs == TOTALS_ADE[name] - SCALARS_IN_TRACE


@pytest.mark.parametrize("name", CITYSCAPES)
def test_macs_at_1024x2048_are_torchprofiles_kind_by_kind(name: str) -> None:
    counted = complexity(name, num_classes=19, height=1024, width=2048)
    assert counted.by_kind + Macs(multiply=SCALARS_IN_TRACE) == CITYSCAPES[name]
    assert counted.macs == TOTALS_CITYSCAPES[name] - SCALARS_IN_TRACE


def test_every_level_of_the_tree_adds_up_to_the_whole() -> None:
    counted = complexity("tiny", num_classes=150, height=512, width=512)
    root = counted.modules
    assert [child.name for child in root.children] == ["backbone", "decode_head", "(upsample)"]
    assert sum(child.params for child in root.children) == counted.params
    assert sum(child.macs.total for child in root.children) == counted.macs
    assert sum(child.macs.total for child in root.children[0].children) == root.children[0].macs.total


def test_depth_two_lists_the_parts_of_backbone_and_head_parents_first() -> None:
    root = complexity("tiny", num_classes=150, height=512, width=512).modules
    names = [module.name for module in root.at_depth(2)]
    assert names[:3] == ["", "backbone", "backbone.patch_embed1"]
    assert "decode_head.hamburger" in names
    assert "backbone.block1.0" not in names
    costs = {module.name: module for module in root.at_depth(2)}
    # 1×1 convolution from 256 channels to 150 classes at 64×64 pixels
    assert costs["decode_head.conv_seg"].macs == Macs(conv=256 * 150 * 64 * 64)
    assert costs["decode_head.conv_seg"].params == 256 * 150 + 150


def test_a_block_owns_its_layer_scales_and_its_gating_product() -> None:
    root = complexity("tiny", num_classes=150, height=512, width=512).modules
    costs = {module.name: module for module in root.at_depth(9)}
    block, pixels = costs["backbone.block1.0"], 128 * 128
    assert block.macs.multiply == 3 * 32 * pixels
    assert block.params - sum(child.params for child in block.children) == 2 * 32


def test_odd_sizes_round_up_at_every_stride() -> None:
    counted = complexity("tiny", num_classes=19, height=97, width=33)
    costs = {module.name: module for module in counted.modules.at_depth(9)}
    # 97 -> 49 -> 25 -> 13 -> 7 -> 4 and 33 -> 17 -> 9 -> 5 -> 3 -> 2
    assert costs["backbone.patch_embed1.proj.0"].macs.conv == 49 * 17 * 3 * 16 * 9
    assert costs["backbone.patch_embed1.proj.3"].macs.conv == 25 * 9 * 16 * 32 * 9
    assert costs["backbone.patch_embed2.proj"].macs.conv == 13 * 5 * 32 * 64 * 9
    assert costs["backbone.patch_embed4.proj"].macs.conv == 4 * 2 * 160 * 256 * 9
    assert costs["decode_head.conv_seg"].macs.conv == 13 * 5 * 256 * 19
    assert costs["(upsample)"].macs.resize == 4 * 19 * 97 * 33


def test_rank_and_steps_of_the_factorisation_change_its_cost_alone() -> None:
    usual = complexity("tiny", num_classes=19, height=64, width=64)
    other = complexity("tiny", num_classes=19, height=64, width=64, nmf_rank=8, nmf_steps=6)
    assert other.params == usual.params
    assert other.by_kind.conv == usual.by_kind.conv
    assert other.by_kind.matmul == 15 * 64 * 256 * 8 + 13 * 8 * 8 * (64 + 256)


def test_flops_count_a_multiplication_and_an_addition_as_two() -> None:
    counted = complexity("tiny", num_classes=19, height=64, width=64)
    assert counted.flops == 2 * counted.macs


def test_a_size_below_one_names_the_culprit() -> None:
    with pytest.raises(ConfigError, match="height=0"):
        complexity("tiny", num_classes=19, height=0, width=64)


def test_an_unknown_model_names_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="tiny, small, base, large"):
        complexity("huge", num_classes=19, height=64, width=64)


def test_segnext_complexity_stays_a_function_after_its_module_was_imported() -> None:
    assert segnext.complexity is complexity


def test_counting_imports_neither_jittor_nor_torch() -> None:
    code = (
        "import sys, segnext; segnext.complexity('large', num_classes=19, height=1024, width=2048); "
        "assert not {'jittor', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
