//! `curves.svg`: loss, learning rate and validation metrics of a run, drawn from its log.

use std::collections::BTreeMap;

use figures::{Axis, Panel, Series, curves};

use crate::run_log::{LogLine, StepLine};

/// Blue, orange, green, purple, pink, teal; each has a contrast of at least 3 to white and to near-black.
const COLOURS: [&str; 6] = ["#2f81f7", "#e8710a", "#2da44e", "#a371f7", "#db61a2", "#1b9aaa"];

/// Draws the curves of a run as an SVG document.
///
/// The loss is shown as logged (faint) and smoothed by an exponential average; metrics are shown in per cent. Lines must be in
/// the order of their steps, as the log has them.
#[must_use]
pub fn curves_svg(title: &str, lines: &[LogLine]) -> String {
    let panels = [
        Panel { heading: "Loss", series: loss(lines), axis: Axis::Loss },
        Panel { heading: "Learning rate", series: rate(lines), axis: Axis::FromZero },
        Panel { heading: "Validation, %", series: metrics(lines), axis: Axis::Tight },
    ];
    curves(title, lines.iter().map(LogLine::step).max().unwrap_or(0), &panels)
}

fn loss(lines: &[LogLine]) -> Vec<Series> {
    let points = steps(lines, |line| line.loss);
    if points.is_empty() {
        return Vec::new();
    }
    let mut series =
        vec![Series::new("", COLOURS[0], points.clone()).faint(), Series::new("loss, smoothed", COLOURS[0], smooth(&points))];
    // Its terms, where it has several, in colours of their own.
    for (name, colour) in terms(lines).into_iter().zip(COLOURS[1..].iter().cycle()) {
        let value = |line: &StepLine| line.parts.get(&name).copied().flatten().unwrap_or(f64::NAN);
        series.push(Series::new(&name, colour, smooth(&steps(lines, value))).dashed());
    }
    series
}

/// Names of the loss's terms.
fn terms(lines: &[LogLine]) -> Vec<String> {
    let first = lines.iter().find_map(|line| match line {
        LogLine::Step(line) => Some(line.parts.keys().cloned().collect()),
        LogLine::Eval(_) => None,
    });
    first.unwrap_or_default()
}

fn rate(lines: &[LogLine]) -> Vec<Series> {
    let points = steps(lines, |line| line.lr);
    if points.is_empty() {
        return Vec::new();
    }
    vec![Series::new("", COLOURS[1], points)]
}

fn steps(lines: &[LogLine], value: impl Fn(&StepLine) -> f64) -> Vec<(f64, f64)> {
    lines
        .iter()
        .filter_map(|line| match line {
            LogLine::Step(line) => Some((line.step as f64, value(line))),
            LogLine::Eval(_) => None,
        })
        .collect()
}

/// One series per split and metric. A single split has a colour per metric; two have a colour each, with oIoU dashed; of more
/// only mIoU is shown.
fn metrics(lines: &[LogLine]) -> Vec<Series> {
    let mut splits: Vec<&str> = Vec::new();
    let mut points: BTreeMap<(usize, usize), Vec<(f64, f64)>> = BTreeMap::new();
    const METRICS: [(&str, &str); 2] = [("miou", "mIoU"), ("oiou", "oIoU")];
    for line in lines {
        let LogLine::Eval(line) = line else {
            continue;
        };
        let split = splits.iter().position(|s| *s == line.split).unwrap_or_else(|| {
            splits.push(&line.split);
            splits.len() - 1
        });
        for (metric, (key, _)) in METRICS.iter().enumerate() {
            if let Some(value) = line.metrics.get(*key) {
                let series = points.entry((split, metric)).or_default();
                series.push((line.step as f64, 100.0 * value));
            }
        }
    }
    points
        .into_iter()
        .filter(|((_, metric), _)| splits.len() <= 2 || *metric == 0)
        .map(|((split, metric), points)| {
            let several = splits.len() > 1;
            let colour = COLOURS[if several { split } else { 2 + metric } % COLOURS.len()];
            let label = format!("{} {}", splits[split], METRICS[metric].1);
            let series = Series::new(&label, colour, points).marked();
            if several && metric == 1 { series.dashed() } else { series }
        })
        .collect()
}

/// Exponential average over about a fifteenth of the points, without the usual pull towards the first one.
fn smooth(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let window = (points.len() as f64 / 15.0).clamp(2.0, 60.0);
    let keep = 1.0 - 1.0 / window;
    let (mut sum, mut weight) = (0.0, 0.0);
    points
        .iter()
        .map(|&(step, value)| {
            if value.is_finite() {
                sum = keep * sum + value;
                weight = keep * weight + 1.0;
            }
            (step, if weight > 0.0 { sum / weight } else { f64::NAN })
        })
        .collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;
    use crate::run_log::EvalLine;

    fn log_lines() -> Vec<LogLine> {
        let mut lines = Vec::new();
        for n in 1..=300u64 {
            let x = n as f64 / 300.0;
            let noise = ((n * 7919) % 101) as f64 / 101.0 - 0.5;
            lines.push(LogLine::Step(StepLine {
                step: n * 20,
                epoch: n / 30,
                loss: 0.12 + 0.6 * (-5.0 * x).exp() * (1.0 + 0.6 * noise) + 0.08 * noise,
                lr: crate::schedule::warmup_cosine(n * 20, 600, 6000, 1e-7, 1e-4, 1e-6),
                grad_norm: 0.3,
                skipped: None,
                unreadable: Vec::new(),
                parts: [("bce".to_owned(), Some(0.3 * x)), ("dice".to_owned(), None)].into(),
            }));
            if n % 30 == 0 {
                for (split, shift) in [("val", 0.0), ("testA", 0.04)] {
                    let miou = shift + 0.66 * (1.0 - (-4.0 * x).exp());
                    lines.push(LogLine::Eval(EvalLine {
                        step: n * 20,
                        epoch: n / 30,
                        split: split.to_owned(),
                        profile: "saymask".to_owned(),
                        samples: 9,
                        metrics: BTreeMap::from([("miou".to_owned(), miou), ("oiou".to_owned(), miou - 0.05)]),
                    }));
                }
            }
        }
        lines
    }

    fn one_split() -> Vec<LogLine> {
        let mut lines = log_lines();
        lines.retain(|line| !matches!(line, LogLine::Eval(e) if e.split != "val"));
        lines
    }

    #[test]
    fn every_part_is_drawn() {
        let svg = curves_svg("L-DIT <demo> & more", &log_lines());
        for part in [
            "L-DIT &lt;demo&gt; &amp; more",
            "Loss",
            ">bce ",
            ">dice ",
            "Learning rate",
            "Validation, %",
            "testA oIoU",
            "6000 steps",
        ] {
            assert!(svg.contains(part), "{part}");
        }
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
        assert_eq!(svg.matches("<svg").count(), svg.matches("</svg>").count());
        assert_eq!(svg.matches("<g").count(), svg.matches("</g>").count());
    }

    #[test]
    fn odd_logs_still_give_a_figure() {
        assert_eq!(curves_svg("x", &[]).matches("nothing yet").count(), 3);
        let mut lines = one_split();
        lines.truncate(1);
        if let LogLine::Step(line) = &mut lines[0] {
            line.loss = f64::NAN;
            line.lr = 0.0;
        }
        let svg = curves_svg("x", &lines);
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        let mut lines = one_split();
        if let LogLine::Step(line) = &mut lines[70] {
            line.loss = f64::INFINITY;
        }
        let svg = curves_svg("x", &lines);
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }

    #[test]
    fn smoothing_starts_at_the_first_value_and_follows() {
        let flat: Vec<(f64, f64)> = (0..50).map(|n| (f64::from(n), 3.0)).collect();
        assert!(smooth(&flat).iter().all(|p| (p.1 - 3.0).abs() < 1e-12));
        let jump: Vec<(f64, f64)> = (0..90).map(|n| (f64::from(n), if n < 30 { 0.0 } else { 1.0 })).collect();
        let out = smooth(&jump);
        assert_eq!(out[29].1, 0.0);
        assert!(out[30].1 > 0.1 && out[30].1 < 0.3);
        assert!(out[89].1 > 0.99);
    }

    /// Writes samples to look at: `cargo test -p trainer curves -- --ignored`.
    #[test]
    #[ignore = "writes files to look at"]
    fn sample() {
        let dir = std::env::temp_dir();
        std::fs::write(dir.join("curves.svg"), curves_svg("L-DIT on RefCOCO", &log_lines())).unwrap();
        std::fs::write(dir.join("curves-one.svg"), curves_svg("demo", &one_split())).unwrap();
    }
}
