//! The sections of a report: head, figures, curves, groups of expressions, exchanged words; and tables over several runs.

use std::collections::BTreeMap;
use std::fmt::Write;

use figures::{Axis, Panel, Series, curves as drawn};
use metrics::Report;
use trainer::run_log::{LogLine, StepLine};

use super::html::{Html, escaped, grade};
use super::items::{HEADINGS, Row};
use super::read::{Judged, Run};
use super::statistics::{Interval, figures as with_interval, gain};

/// Colours of curves; each reads on white and on near-black.
const COLOURS: [&str; 6] = ["#2f81f7", "#e8710a", "#2da44e", "#a371f7", "#db61a2", "#1b9aaa"];
/// Panels in a row.
const ACROSS: usize = 3;

/// Name, what ran where, and the first split's figures.
pub(super) fn head(html: &mut Html, run: &Run) {
    html.raw(&format!("<h1>{}</h1>", escaped(&run.name)));
    let config = &run.config;
    let steps = run.log.iter().map(LogLine::step).max().unwrap_or(0);
    let mut line = format!("{} on {} ({}), {steps} steps", config.model.method.name(), config.data.dataset, config.data.split_by);
    if let Some(figures) = &run.figures {
        let _ = write!(line, " in {:.0} s", figures.seconds);
    }
    html.raw(&format!("<p>{}</p>", escaped(&line)));
    if let Some(figures) = &run.figures {
        html.raw(&format!("<p class=\"quiet small\"><code>{}</code></p>", escaped(&figures.origin.line().replace('`', ""))));
    }
    let Some(first) = run.splits.first() else { return };
    let mut big = String::from("<div class=\"big\">");
    let mut one = |name: &str, value: String, class: &str| {
        let _ = write!(big, "<div><span>{}</span><strong class=\"{class}\">{value}</strong></div>", escaped(name));
    };
    let of = first.report.whole_split();
    one(&format!("mIoU, {of}"), format!("{:.1}", 100.0 * first.report.miou), "");
    one("oIoU", format!("{:.1}", 100.0 * first.report.oiou), "");
    if let Some((before, _)) = &first.before {
        let gained = 100.0 * (first.report.miou - before.miou);
        one("mIoU before", format!("{:.1}", 100.0 * before.miou), "");
        one("gained", format!("{gained:+.1}"), if gained > 0.0 { "good" } else { "bad" });
    }
    if let Some(shuffled) = &first.shuffled {
        one("mIoU, text shuffled", format!("{:.1}", 100.0 * shuffled.miou), "");
    }
    html.raw(&(big + "</div>"));
}

/// A row per split, with intervals where every expression is known.
pub(super) fn figures(html: &mut Html, run: &Run) {
    html.heading("Figures");
    if run.splits.is_empty() {
        html.quiet("The run was not judged yet.");
        return;
    }
    let thresholds: Vec<f64> = run.splits[0].report.precision.iter().map(|p| p.at).collect();
    let mut head = vec![String::new(), "sentences".into(), "mIoU".into(), "oIoU".into()];
    head.extend(thresholds.iter().map(|at| format!("P@{at}")));
    let mut rows = Vec::new();
    for split in &run.splits {
        let name = split.report.whole_split();
        if let Some((before, items)) = &split.before {
            rows.push(row(&format!("{name}, before"), before, items.as_ref().map(|i| i.rows.as_slice())));
        }
        rows.push(row(&name, &split.report, split.items.as_ref().ok().map(|i| i.rows.as_slice())));
        if let Some(shuffled) = &split.shuffled {
            rows.push(row(&format!("{name}, text shuffled"), shuffled, None));
        }
    }
    html.table(&head, &rows);
    let profile = &run.splits[0].report;
    html.quiet(&format!(
        "Per cent, judged as {} above {}. In brackets what 95 of 100 draws of as many images with replacement lie in.",
        profile.profile, profile.threshold
    ));
    for split in &run.splits {
        if let (Some((_, Some(before))), Ok(after)) = (&split.before, &split.items)
            && let Some(gained) = gain(&before.rows, &after.rows)
        {
            html.raw(&format!("<p>Gained on {}: mIoU {}.</p>", escaped(&split.report.whole_split()), signed(gained)));
        }
    }
}

fn signed(gained: Interval) -> String {
    format!("{:+.1} ({:+.1} to {:+.1})", 100.0 * gained.value, 100.0 * gained.low, 100.0 * gained.high)
}

fn row(name: &str, report: &Report, rows: Option<&[Row]>) -> Vec<String> {
    let [miou, oiou] = match rows {
        Some(rows) => with_interval(rows.iter()).map(Interval::text),
        None => [report.miou, report.oiou].map(|v| format!("{:.1}", 100.0 * v)),
    };
    let mut out = vec![name.to_owned(), report.samples.to_string(), miou, oiou];
    out.extend(report.precision.iter().map(|p| format!("{:.1}", 100.0 * p.value)));
    out
}

/// The values of a step's line, where they are numbers.
fn points(run: &Run, value: impl Fn(&StepLine) -> f64) -> Vec<(f64, f64)> {
    let of = |line: &LogLine| match line {
        LogLine::Step(line) => Some((line.step as f64, value(line))),
        LogLine::Eval(_) => None,
    };
    run.log.iter().filter_map(of).filter(|(_, v)| v.is_finite()).collect()
}

/// An exponential average over a twentieth of the points.
fn smooth(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let keep = 1.0 - 1.0 / (points.len() as f64 / 20.0).max(1.0);
    let mut average = None;
    let next = |&(step, value): &(f64, f64)| {
        let smoothed = average.map_or(value, |old: f64| old * keep + value * (1.0 - keep));
        average = Some(smoothed);
        (step, smoothed)
    };
    points.iter().map(next).collect()
}

/// Names of the loss's terms.
fn terms(run: &Run) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    for line in &run.log {
        if let LogLine::Step(line) = line {
            out.extend(line.parts.keys().filter(|name| !out.contains(name)).cloned().collect::<Vec<_>>());
        }
    }
    out
}

/// Metrics of the split that was judged during training.
fn judged(run: &Run, metric: &str) -> Vec<(f64, f64)> {
    let of = |line: &LogLine| match line {
        LogLine::Eval(line) => Some((line.step as f64, 100.0 * line.metrics.get(metric)?)),
        LogLine::Step(_) => None,
    };
    run.log.iter().filter_map(of).collect()
}

/// A panel per term of the loss, then the rate, the gradient and what was judged on the way.
pub(super) fn curves(html: &mut Html, run: &Run) {
    html.heading("Curves");
    if run.log.is_empty() {
        html.quiet("The run has no log.");
        return;
    }
    let faint = |name: &str, colour: usize, values: Vec<(f64, f64)>| {
        let colour = COLOURS[colour % COLOURS.len()];
        let smoothed = Series::new(name, colour, smooth(&values));
        vec![Series::new("", colour, values).faint(), smoothed]
    };
    let mut panels: Vec<(String, Vec<Series>, Axis)> =
        vec![("Loss".into(), faint("smoothed", 0, points(run, |l| l.loss)), Axis::Loss)];
    for (k, name) in terms(run).iter().enumerate() {
        let values = points(run, |line| line.parts.get(name).copied().flatten().unwrap_or(f64::NAN));
        panels.push((format!("Loss: {name}"), faint("smoothed", k + 1, values), Axis::Loss));
    }
    panels.push(("Learning rate".into(), vec![Series::new("", COLOURS[1], points(run, |l| l.lr))], Axis::FromZero));
    panels.push(("Gradient norm".into(), faint("smoothed", 3, points(run, |l| l.grad_norm)), Axis::Loss));
    let miou = judged(run, "miou");
    if miou.len() > 1 {
        let series =
            vec![Series::new("mIoU", COLOURS[0], miou).marked(), Series::new("oIoU", COLOURS[2], judged(run, "oiou")).dashed()];
        panels.push(("Held out, %".into(), series, Axis::Tight));
    }
    rows_of_panels(html, &panels, run.log.iter().map(LogLine::step).max().unwrap_or(0));
}

fn rows_of_panels(html: &mut Html, panels: &[(String, Vec<Series>, Axis)], last: u64) {
    for row in panels.chunks(ACROSS) {
        let row: Vec<Panel<'_>> =
            row.iter().map(|(heading, series, axis)| Panel { heading, series: series.clone(), axis: *axis }).collect();
        html.svg(&drawn("", last, &row));
    }
}

/// Mean IoU by groups of expressions.
pub(super) fn parts(html: &mut Html, split: &Judged) {
    html.heading(&format!("By kinds of expressions, {}", split.report.whole_split()));
    let items = match &split.items {
        Ok(items) => items,
        Err(why) => {
            html.quiet(why);
            return;
        }
    };
    html.raw("<div class=\"grid\">");
    for heading in HEADINGS {
        let mut groups: BTreeMap<&str, Vec<&Row>> = BTreeMap::new();
        for row in &items.rows {
            groups.entry(row.groups.get(heading).map_or("", String::as_str)).or_default().push(row);
        }
        html.raw(&format!("<div><h3>By {heading}</h3><table class=\"bars\">"));
        for (name, rows) in groups {
            let [miou, _] = with_interval(rows.iter().copied());
            html.raw(&bar(name, rows.len(), miou));
        }
        html.raw("</table></div>");
    }
    html.raw("</div>");
    html.quiet("Mean IoU in per cent with the interval of 95 of 100 draws of images; the line in a bar is that interval.");
}

fn bar(name: &str, count: usize, miou: Interval) -> String {
    let per_cent = |v: f64| format!("{:.1}", 100.0 * v.clamp(0.0, 1.0));
    format!(
        "<tr><td>{}</td><td class=\"quiet\">{count}</td><td><span class=\"bar\"><i style=\"width:{}%\"></i>\
         <b style=\"left:{}%;width:{}%\"></b></span></td><td class=\"{}\">{}</td></tr>",
        escaped(name),
        per_cent(miou.value),
        per_cent(miou.low),
        per_cent(miou.high - miou.low),
        grade(miou.value),
        miou.text(),
    )
}

/// What exchanged words did to the masks.
pub(super) fn words(html: &mut Html, run: &Run) {
    html.heading("Exchanged words");
    let mut told = false;
    for split in &run.splits {
        let Some(words) = &split.words else { continue };
        told = true;
        let mut rows = Vec::new();
        let all = serde_json::json!({ "all": words["all"] });
        for (name, counts) in [&words["kinds"], &all].into_iter().filter_map(|v| v.as_object()).flatten() {
            let count = |key: &str| counts[key].as_u64().unwrap_or(0);
            let share = |key: &str| format!("{:.1}", 100.0 * count(key) as f64 / count("probes").max(1) as f64);
            rows.push(vec![name.clone(), count("probes").to_string(), share("right"), share("moved"), share("decided")]);
        }
        let head = ["", "sentences", "right before", "moved", "decided"].map(str::to_owned);
        html.table(&head, &rows);
        html.quiet(
            "Per cent of sentences in which a word was exchanged for its opposite. Moved: the mask for the changed sentence lies on \
             the other object; decided: and that for the sentence itself on its own.",
        );
        confused(html, words);
    }
    if !told {
        html.quiet("Not asked: `eval --probe words` exchanges left for right, red for blue, and counts whether masks follow.");
    }
}

/// Sentences whose mask stayed where it was.
fn confused(html: &mut Html, words: &serde_json::Value) {
    const SHOWN: usize = 12;
    let pair = |outcome: &serde_json::Value, key: &str| {
        let at = |i: usize| outcome[key][i].as_f64().unwrap_or(0.0);
        (at(0), at(1))
    };
    let stuck = words["outcomes"].as_array().into_iter().flatten().filter(|o| {
        let ((own, other), (still, moved)) = (pair(o, "before"), pair(o, "after"));
        own > other && still >= moved
    });
    let text = |o: &serde_json::Value, key: &str| o[key].as_str().unwrap_or_default().to_owned();
    let rows: Vec<Vec<String>> =
        stuck.take(SHOWN).map(|o| vec![text(o, "sentence"), text(o, "changed"), text(o, "kind")]).collect();
    if !rows.is_empty() {
        html.raw("<h3>Words that changed nothing</h3>");
        html.table(&["sentence", "asked instead", "kind"].map(str::to_owned), &rows);
    }
}

/// Figures of several runs, a row per run and a column per split.
pub(super) fn side_by_side(html: &mut Html, runs: &[Run]) {
    html.raw("<h1>Runs beside each other</h1>");
    html.heading("Figures");
    let mut splits: Vec<String> = Vec::new();
    for split in runs.iter().flat_map(|run| &run.splits) {
        let name = split.report.whole_split();
        if !splits.contains(&name) {
            splits.push(name);
        }
    }
    let mut head = vec!["run".to_owned(), "method".into(), "steps".into()];
    head.extend(splits.iter().flat_map(|name| [format!("mIoU, {name}"), "oIoU".into(), "against the first".into()]));
    let find = |run: &'_ Run, name: &str| run.splits.iter().position(|s| s.report.whole_split() == name);
    let mut rows = Vec::new();
    for run in runs {
        let steps = run.log.iter().map(LogLine::step).max().unwrap_or(0);
        let mut row = vec![run.name.clone(), run.config.model.method.name().to_owned(), steps.to_string()];
        for name in &splits {
            let Some(split) = find(run, name).map(|at| &run.splits[at]) else {
                row.extend(["-".to_owned(), "-".into(), "-".into()]);
                continue;
            };
            let rows = split.items.as_ref().ok().map(|i| i.rows.as_slice());
            let [miou, oiou] = match rows {
                Some(rows) => with_interval(rows.iter()).map(Interval::text),
                None => [split.report.miou, split.report.oiou].map(|v| format!("{:.1}", 100.0 * v)),
            };
            let first = find(&runs[0], name).and_then(|at| runs[0].splits[at].items.as_ref().ok());
            let against = match (first, rows) {
                (Some(first), Some(rows)) if !std::ptr::eq(run, &runs[0]) => gain(&first.rows, rows).map(signed),
                _ => None,
            };
            row.extend([miou, oiou, against.unwrap_or_else(|| "-".into())]);
        }
        rows.push(row);
    }
    html.table(&head, &rows);
    html.quiet(
        "Per cent. In brackets what 95 of 100 draws of images lie in; against the first run, over the sentences that both have.",
    );
}

/// Loss and held-out figures of several runs in one drawing.
pub(super) fn curves_of_all(html: &mut Html, runs: &[Run]) {
    html.heading("Curves");
    let of = |values: &dyn Fn(&Run) -> Vec<(f64, f64)>| -> Vec<Series> {
        runs.iter().enumerate().map(|(k, run)| Series::new(&run.name, COLOURS[k % COLOURS.len()], values(run))).collect()
    };
    let last = runs.iter().flat_map(|run| run.log.iter().map(LogLine::step)).max().unwrap_or(0);
    let panels = vec![
        ("Loss".to_owned(), of(&|run| smooth(&points(run, |l| l.loss))), Axis::Loss),
        ("Held-out mIoU, %".to_owned(), of(&|run| judged(run, "miou")), Axis::Tight),
    ];
    rows_of_panels(html, &panels, last);
}
