//! Published sizes of the sets (refer's and the sets' own documents), to compare a folder with.

/// Sizes of one split.
pub(crate) struct Published {
    pub(crate) set: &'static str,
    pub(crate) by: &'static str,
    pub(crate) split: &'static str,
    pub(crate) refs: Option<u64>,
    pub(crate) sentences: Option<u64>,
    pub(crate) images: Option<u64>,
}

const fn row(set: &'static str, by: &'static str, split: &'static str, refs: u64, sentences: u64, images: u64) -> Published {
    // 0 stands for "not published".
    const fn some(n: u64) -> Option<u64> {
        if n == 0 { None } else { Some(n) }
    }
    Published { set, by, split, refs: some(refs), sentences: some(sentences), images: some(images) }
}

pub(crate) const TABLE: &[Published] = &[
    row("refcoco", "unc", "train", 42_404, 120_624, 16_994),
    row("refcoco", "unc", "val", 3_811, 10_834, 1_500),
    row("refcoco", "unc", "testA", 1_975, 5_657, 750),
    row("refcoco", "unc", "testB", 1_810, 5_095, 750),
    row("refcoco", "google", "train", 40_000, 0, 19_213),
    row("refcoco", "google", "val", 5_000, 0, 4_559),
    row("refcoco", "google", "test", 5_000, 0, 4_527),
    row("refcoco+", "unc", "train", 42_278, 120_191, 16_992),
    row("refcoco+", "unc", "val", 3_805, 10_758, 1_500),
    row("refcoco+", "unc", "testA", 1_975, 5_726, 750),
    row("refcoco+", "unc", "testB", 1_798, 4_889, 750),
    row("refcocog", "umd", "train", 42_226, 80_512, 21_899),
    row("refcocog", "umd", "val", 2_573, 4_896, 1_300),
    row("refcocog", "umd", "test", 5_023, 9_602, 2_600),
    row("refcocog", "google", "train", 44_822, 85_474, 24_698),
    row("refcocog", "google", "val", 5_000, 9_536, 4_650),
    row("refclef", "unc", "train", 0, 0, 17_978),
    row("refclef", "unc", "val", 0, 0, 2_000),
    row("refclef", "unc", "testA", 0, 0, 485),
    row("refclef", "unc", "testB", 0, 0, 490),
    row("refclef", "unc", "testC", 0, 0, 465),
    row("refclef", "berkeley", "train", 0, 0, 8_998),
    row("refclef", "berkeley", "val", 0, 0, 1_000),
    row("refclef", "berkeley", "test", 0, 0, 9_999),
    row("grefcoco", "unc", "train", 0, 0, 16_994),
    row("grefcoco", "unc", "val", 0, 0, 1_500),
    row("grefcoco", "unc", "testA", 0, 0, 750),
    row("grefcoco", "unc", "testB", 0, 0, 750),
    row("phrasecut", "vg", "train", 0, 310_816, 71_746),
    row("phrasecut", "vg", "val", 0, 19_495, 2_871),
    row("phrasecut", "vg", "test", 0, 14_354, 2_545),
    row("phrasecut", "vg", "miniv", 0, 821, 100),
    row("ade20k", "challenge", "train", 0, 0, 20_210),
    row("ade20k", "challenge", "val", 0, 0, 2_000),
    row("mapillary", "v2.0", "train", 0, 0, 18_000),
    row("mapillary", "v2.0", "val", 0, 0, 2_000),
    row("humanparsing", "atr", "train", 0, 0, 17_706),
    row("partimagenet", "seg", "train", 0, 0, 20_481),
    row("partimagenet", "seg", "val", 0, 0, 1_206),
    row("partimagenet", "seg", "test", 0, 0, 2_408),
    row("pascal_part", "vlpart", "train", 0, 0, 4_366),
];

/// The published row of a split.
pub(crate) fn find(set: &str, by: &str, split: &str) -> Option<&'static Published> {
    TABLE.iter().find(|p| p.set == set && p.by == by && p.split == split)
}

/// Published images over all splits, the figure every set has; splits of one set may share images.
pub(crate) fn total_images(set: &str, by: &str) -> u64 {
    TABLE.iter().filter(|p| p.set == set && p.by == by).filter_map(|p| p.images).sum()
}
