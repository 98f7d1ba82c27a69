//! A paper's whole line: a column per split, and their mean.

use metrics::Report;
use referee::{Cell, Table};

use super::Metric;

/// One row: the metric, a column per split, the mean.
pub(super) fn table(reports: &[Report], metric: Metric) -> Table {
    let mut table = Table::new(std::iter::once(metric.name().to_owned()).chain(reports.iter().map(column)));
    let profile = reports.first().map_or(String::new(), |r| r.profile.clone());
    let mut row = vec![Cell::Text(profile)];
    row.extend(reports.iter().map(|r| Cell::Share(metric.of(r))));
    if let Some(mean) = mean(reports, metric) {
        table.head.push("mean".into());
        row.push(Cell::Share(mean));
    }
    table.rows.push(row);
    table
}

/// The plain mean of the columns, where there are several.
pub(super) fn mean(reports: &[Report], metric: Metric) -> Option<f64> {
    (reports.len() > 1).then(|| reports.iter().map(|r| metric.of(r)).sum::<f64>() / reports.len() as f64)
}

/// A column's head: RefCOCOg has two splits called val, so who made them is said there.
pub(crate) fn head(dataset: &str, split_by: &str, split: &str) -> String {
    match dataset {
        "" => split.to_owned(),
        "refcocog" => format!("refcocog {split} ({split_by})"),
        set => format!("{set} {split}"),
    }
}

fn column(report: &Report) -> String {
    head(&report.dataset, &report.split_by, &report.split)
}
