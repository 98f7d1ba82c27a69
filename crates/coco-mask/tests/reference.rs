//! Random polygons and masks against values made with pycocotools (`fixtures/make.py`).
#![allow(clippy::unwrap_used, clippy::expect_used)]

use coco_mask::{Merge, Rle, intersection_union, iou, merge};

fn numbers(field: &str) -> Vec<f64> {
    field.split(',').map(|v| v.parse().unwrap()).collect()
}

#[test]
fn equals_pycocotools() {
    let text = include_str!("fixtures/cases.tsv");
    assert!(text.lines().count() >= 100);
    for (line, row) in text.lines().enumerate() {
        let f: Vec<&str> = row.split('\t').collect();
        let (h, w): (u32, u32) = (f[0].parse().unwrap(), f[1].parse().unwrap());
        let polygons: Vec<Vec<f64>> = f[2].split(';').map(numbers).collect();
        let a = Rle::from_polygons(h, w, &polygons).unwrap();
        assert_eq!(a.to_compressed(), f[3], "line {line}: polygons");
        assert_eq!(a.area().to_string(), f[4], "line {line}: area");
        assert_eq!(a.bbox().to_vec(), numbers(f[5]), "line {line}: box");

        let b = Rle::from_compressed(h, w, f[6]).unwrap();
        assert_eq!(b.to_compressed(), f[6], "line {line}: text");
        assert_eq!(b.bbox().to_vec(), numbers(f[7]), "line {line}: box of bytes");
        if f[8] != "-" {
            let bytes: Vec<u8> = f[8].bytes().map(|c| c - b'0').collect();
            assert_eq!(Rle::from_row_major(h, w, &bytes).unwrap(), b, "line {line}: bytes");
            assert_eq!(b.to_row_major(), bytes, "line {line}: bytes back");
        }

        assert_eq!(iou(&a, &b, false).unwrap(), f[11].parse().unwrap(), "line {line}: iou");
        assert_eq!(iou(&a, &b, true).unwrap(), f[12].parse().unwrap(), "line {line}: crowd iou");
        let both = [a, b];
        let intersection = merge(&both, Merge::Intersection).unwrap();
        let union = merge(&both, Merge::Union).unwrap();
        assert_eq!(intersection.to_compressed(), f[9], "line {line}: intersection");
        assert_eq!(union.to_compressed(), f[10], "line {line}: union");
        assert_eq!(
            intersection_union(&both[0], &both[1]).unwrap(),
            (intersection.area(), union.area()),
            "line {line}: counts on runs"
        );
    }
}
