//! The tables of the referee: the same results under all protocols, and what each protocol does.

use crate::protocol::{Frame, OtherSize, Overlap, Protocol, Soft};
use crate::resample::MapFilter;
use crate::score::Score;
use crate::table::{Cell, Table};

/// The same results under all protocols side by side; with the points that each protocol's oIoU and mIoU lie above the first row's.
#[must_use]
pub fn side_by_side(scores: &[Score]) -> Table {
    let heads = ["protocol", "oIoU", "mIoU", "P@0.5", "P@0.7", "P@0.9", "N-acc", "T-acc", "oIoU +-", "mIoU +-"];
    let mut table = Table::new(heads);
    let first = scores.iter().find_map(|s| s.outcome.as_ref().ok());
    for score in scores {
        let mut row = vec![Cell::Text(score.protocol.name.into())];
        match &score.outcome {
            Err(_) => row.resize(heads.len(), Cell::None),
            Ok(report) => {
                row.extend([Cell::Share(report.oiou), Cell::Share(report.miou)]);
                let at = |x: f64| report.precision.iter().find(|p| p.at == x).map(|p| p.value);
                row.extend([0.5, 0.7, 0.9].map(|x| at(x).into()));
                let gres = report.gres.as_ref();
                row.extend([gres.and_then(|g| g.n_acc).into(), gres.and_then(|g| g.t_acc).into()]);
                let above = |own: f64, other: Option<f64>| other.map_or(Cell::None, |other| Cell::Points(own - other));
                row.push(above(report.oiou, first.map(|f| f.oiou)));
                row.push(above(report.miou, first.map(|f| f.miou)));
            }
        }
        table.rows.push(row);
    }
    table
}

/// What became of masks of another size than their image, one line per protocol that was given any.
#[must_use]
pub fn other_sizes(scores: &[Score]) -> Vec<String> {
    let line = |score: &Score| {
        let (name, count) = (score.protocol.name, score.other_size);
        match &score.outcome {
            Err(refused) => Some(format!(
                "{name}: no figures, for it cannot judge {} of the masks; the first: {}",
                refused.count, refused.first
            )),
            Ok(_) => {
                (count > 0).then(|| format!("{name}: {count} of another size than their image ({})", resize(&score.protocol)))
            }
        }
    };
    scores.iter().filter_map(line).collect()
}

fn resize(protocol: &Protocol) -> String {
    match protocol.soft {
        Soft::ResizeThenThreshold(_) if protocol.other_size == OtherSize::Refuse => threshold(protocol),
        _ => other_size(protocol),
    }
}

/// What each protocol does, in words.
#[must_use]
pub fn protocols() -> Table {
    let mut table = Table::new([
        "protocol",
        "whose",
        "threshold",
        "compared at",
        "mask of another size",
        "overlapping polygons",
        "empty masks",
        "P@X",
        "reading of ours",
    ]);
    for p in Protocol::all() {
        let texts = [
            p.name.into(),
            p.whose.into(),
            threshold(&p),
            frame(&p),
            other_size(&p),
            overlap(&p),
            empty(&p),
            signs(&p),
            p.reading.into(),
        ];
        table.rows.push(texts.map(Cell::Text).to_vec());
    }
    table
}

fn threshold(p: &Protocol) -> String {
    let order = match p.soft {
        Soft::ResizeThenThreshold(MapFilter::Bilinear) => "after a bilinear resize",
        Soft::ResizeThenThreshold(MapFilter::Bicubic) => "after a bicubic resize",
        Soft::ThresholdThenResize if p.other_size == OtherSize::AnyShare => "before the resize",
        Soft::ThresholdThenResize => "maps of the image's size alone",
    };
    format!("probability > {}, {order}", p.threshold)
}

fn frame(p: &Protocol) -> String {
    match p.frame {
        Frame::Image => "the image's size".into(),
        Frame::Square(side) => format!("{side} x {side}, stretched"),
    }
}

fn other_size(p: &Protocol) -> String {
    match p.other_size {
        OtherSize::Refuse => "refused".into(),
        OtherSize::Nearest => "nearest pixels".into(),
        OtherSize::AnyShare => "bilinear, any positive share counts".into(),
        OtherSize::Filter => format!("bicubic, share > {}", p.threshold),
    }
}

fn overlap(p: &Protocol) -> String {
    match p.overlap {
        Overlap::Union => "union",
        Overlap::Background => "background where two lie on each other",
        Overlap::Redrawn => "union, drawn at that size",
    }
    .into()
}

fn empty(p: &Protocol) -> String {
    let both = match p.profile.empty {
        metrics::EmptyPolicy::One => "both empty: 1",
        metrics::EmptyPolicy::Zero => "both empty: 0",
    };
    match p.profile.no_target {
        None => both.into(),
        Some(rule) => {
            format!("no target and fewer than {} pixels: 1, into no sum; else 0, and the union counts", rule.min_pixels)
        }
    }
}

fn signs(p: &Protocol) -> String {
    let sign = match p.profile.precision_compare {
        metrics::Compare::Gt => ">",
        metrics::Compare::Ge => ">=",
    };
    let [above, below] = p.profile.smoothing;
    let iou = match (above > 0.0, below > 0.0) {
        (false, false) => String::new(),
        (false, true) => format!("; IoU = I / (U + {below:e})"),
        (true, _) => format!("; IoU = (I + {above:e}) / (U + {below:e})"),
    };
    let among = if p.profile.no_target.is_some() { ", over targets" } else { "" };
    format!("{sign}{among}{iou}")
}
