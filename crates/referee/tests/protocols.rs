//! Every protocol against an independent reading on 1,000 random cases (`fixtures/make.py`: numpy, Pillow, OpenCV, pycocotools).
#![allow(clippy::unwrap_used, clippy::expect_used)]

use coco_mask::Rle;
use metrics::{Confusion, Meter};
use referee::{Answer, Protocol, Refusal, SoftMap, Truth};

struct Case {
    truth: Truth,
    answer: Answer,
    /// By protocol; none where it refuses.
    expected: Vec<Option<Confusion>>,
}

fn cases() -> (Vec<String>, Vec<Case>) {
    let mut lines = include_str!("fixtures/cases.tsv").lines();
    let names = lines.next().unwrap().split('\t').skip(4).map(str::to_owned).collect();
    (names, lines.map(case).collect())
}

fn case(line: &str) -> Case {
    let f: Vec<&str> = line.split('\t').collect();
    let (height, width) = (f[0].parse().unwrap(), f[1].parse().unwrap());
    let numbers = |polygon: &str| polygon.split(',').map(|v| v.parse().unwrap()).collect::<Vec<f64>>();
    let annotations: Vec<Vec<Vec<f64>>> =
        f[2].split('/').filter(|a| *a != "-").map(|a| a.split(';').map(numbers).collect()).collect();
    let truth = Truth::from_polygons(height, width, &annotations).unwrap();
    let given: Vec<&str> = f[3].splitn(4, ' ').collect();
    let (h, w) = (given[1].parse().unwrap(), given[2].parse().unwrap());
    let answer = if given[0] == "m" {
        Answer::Mask(Rle::from_compressed(h, w, given[3]).unwrap())
    } else {
        let levels = given[3].chars().map(|c| c.to_digit(16).unwrap() as u8 * 17).collect();
        Answer::Soft(SoftMap { height: h, width: w, levels })
    };
    let confusion = |cell: &str| {
        let (i, u) = cell.split_once(',')?;
        Some(Confusion { intersection: i.parse().unwrap(), union: u.parse().unwrap() })
    };
    Case { truth, answer, expected: f[4..].iter().map(|cell| confusion(cell)).collect() }
}

#[test]
fn every_protocol_equals_its_reading() {
    let (names, cases) = cases();
    assert_eq!(names, Protocol::all().iter().map(|p| p.name.to_owned()).collect::<Vec<_>>());
    assert_eq!(cases.len(), 1000);
    let mut meters: Vec<Meter> = Protocol::all().into_iter().map(|p| Meter::new(p.profile)).collect();
    for (number, case) in cases.iter().enumerate() {
        let all = case.expected.iter().all(Option::is_some);
        for ((protocol, expected), meter) in Protocol::all().iter().zip(&case.expected).zip(&mut meters) {
            let what = format!("case {number}, {}", protocol.name);
            let got = protocol.judge(&case.answer, None, &case.truth);
            let Some(expected) = expected else {
                assert!(matches!(got, Err(Refusal::Size { .. })), "{what}: {got:?}");
                continue;
            };
            let sample = got.unwrap();
            // The rule of GRES is the meter's: what it adds to its sums is what the script wrote.
            let mut one = Meter::new(protocol.profile.clone());
            one.add(&sample);
            let report = one.report("one");
            assert_eq!((report.intersection, report.union), (expected.intersection, expected.union), "{what}");
            if all {
                meter.add(&sample);
            }
        }
    }
    let mut lines = include_str!("fixtures/figures.tsv").lines();
    let kept: u64 = lines.next().unwrap().parse().unwrap();
    for (line, meter) in lines.zip(&meters) {
        let f: Vec<&str> = line.split('\t').collect();
        let report = meter.report(f[0]);
        assert_eq!((report.samples, report.profile.as_str()), (kept, f[0]));
        let gres = report.gres.iter().flat_map(|g| [g.n_acc.unwrap(), g.t_acc.unwrap()]);
        let got: Vec<f64> =
            [report.oiou, report.miou].into_iter().chain(report.precision.iter().map(|p| p.value)).chain(gres).collect();
        // The same sums in the same order: to the last bit.
        assert_eq!(got, f[1..].iter().map(|v| v.parse().unwrap()).collect::<Vec<f64>>(), "{}", f[0]);
    }
}

/// The fixtures can tell the protocols apart: no two of them agree on all cases.
#[test]
fn no_two_protocols_are_the_same() {
    let (names, cases) = cases();
    let figures: Vec<&str> = include_str!("fixtures/figures.tsv").lines().skip(1).collect();
    for a in 0..names.len() {
        for b in 0..a {
            let differ = cases.iter().any(|c| c.expected[a] != c.expected[b])
                || figures[a].split_once('\t').unwrap().1 != figures[b].split_once('\t').unwrap().1;
            assert!(differ, "{} and {}", names[a], names[b]);
        }
    }
}
