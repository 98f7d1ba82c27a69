//! What changed between two runs: keys of their configs, and figures on the splits that both were judged on.

use std::time::SystemTime;

use anyhow::Result;
use models::run_dir::RunDir;

use super::html::{Html, escaped};
use super::name_of;
use super::read::Run;
use super::statistics::gain;

/// The run beside this one that was begun last before it.
pub(super) fn last_before(run: &Run) -> Result<Option<Run>> {
    let root = run.dir.root().canonicalize().unwrap_or_else(|_| run.dir.root().to_owned());
    let begun = |dir: &RunDir| dir.config_path().metadata().and_then(|m| m.modified()).ok();
    let (Some(parent), Some(own)) = (root.parent(), begun(&run.dir)) else { return Ok(None) };
    let Ok(entries) = std::fs::read_dir(parent) else { return Ok(None) };
    let others = entries.filter_map(|e| Some(RunDir::at(e.ok()?.path()))).filter(|dir| dir.root() != root);
    let earlier = others.filter_map(|dir| Some((begun(&dir)?, dir))).filter(|(time, _): &(SystemTime, _)| *time < own);
    let Some((_, last)) = earlier.max_by_key(|(time, dir)| (*time, dir.root().to_owned())) else { return Ok(None) };
    // One that cannot be read is nothing to compare with.
    Ok(Run::open(&last).ok())
}

/// What is different in `run`, compared with `other`.
pub(super) fn section(html: &mut Html, run: &Run, other: Option<&Run>) -> Result<()> {
    let Some(other) = other else {
        html.heading("What changed since the last run");
        html.quiet(&format!("No earlier run lies beside {}.", name_of(run.dir.root())));
        return Ok(());
    };
    html.heading(&format!("What changed from {} to {}", other.name, run.name));
    let mut rows = Vec::new();
    for split in &run.splits {
        let same = |s: &&super::read::Judged| s.report.whole_split() == split.report.whole_split();
        let Some(before) = other.splits.iter().find(same) else { continue };
        let interval = match (&before.items, &split.items) {
            (Ok(before), Ok(after)) => gain(&before.rows, &after.rows),
            _ => None,
        };
        let (old, new) = (100.0 * before.report.miou, 100.0 * split.report.miou);
        let range = interval.map_or_else(|| "-".into(), |i| format!("{:+.1} to {:+.1}", 100.0 * i.low, 100.0 * i.high));
        rows.push(vec![
            format!("mIoU, {}", split.report.whole_split()),
            format!("{old:.1}"),
            format!("{new:.1}"),
            format!("{:+.1}", new - old),
            range,
        ]);
    }
    if rows.is_empty() {
        html.quiet("They were judged on no split in common.");
    } else {
        html.table(&["", &other.name, &run.name, "difference", "95 of 100 draws"].map(str::to_owned), &rows);
    }
    let differences = run.config.differences(&other.config)?;
    if differences.is_empty() {
        html.quiet("Their configs are the same.");
        return Ok(());
    }
    let mut table = String::from("<div class=\"scroll\"><table><tr><th>key</th>");
    table += &format!("<th class=\"left\">{}</th><th class=\"left\">{}</th></tr>", escaped(&other.name), escaped(&run.name));
    for difference in differences {
        let cell = |value: &Option<String>| escaped(value.as_deref().unwrap_or("-"));
        table += &format!(
            "<tr><td><code>{}</code></td><td class=\"left\"><code>{}</code></td><td class=\"left\"><code>{}</code></td></tr>",
            escaped(&difference.key),
            cell(&difference.there),
            cell(&difference.here)
        );
    }
    html.raw(&(table + "</table></div>"));
    Ok(())
}
