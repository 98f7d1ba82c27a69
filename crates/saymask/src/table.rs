//! Figures as a table for people.

use metrics::Report;

/// One row a split, then the row with exchanged sentences, then mIoU by kind of sentence.
pub fn reports(reports: &[Report], shuffled: Option<&Report>) -> String {
    let mut out = String::new();
    let Some(first) = reports.first() else { return out };
    out += &format!("profile {}, threshold {}\n", first.profile, first.threshold);
    out += &format!("{:<22}{:>8}{:>8}", "split", "oIoU", "mIoU");
    for p in &first.precision {
        out += &format!("{:>8}", format!("P@{}", p.at));
    }
    out += &format!("{:>13}\n", "expressions");
    let row = |name: &str, r: &Report| {
        let mut line = format!("{name:<22}{:>8.2}{:>8.2}", 100.0 * r.oiou, 100.0 * r.miou);
        for p in &r.precision {
            line += &format!("{:>8.2}", 100.0 * p.value);
        }
        line + &format!("{:>13}\n", r.samples)
    };
    let of_one_set = reports.iter().all(|r| (&r.dataset, &r.split_by) == (&first.dataset, &first.split_by));
    let name = |report: &Report| if of_one_set { report.split.clone() } else { report.whole_split() };
    for report in reports {
        out += &row(&name(report), report);
    }
    if let Some(shuffled) = shuffled {
        out += &row(&format!("{}, text shuffled", name(shuffled)), shuffled);
    }
    for (split, gres) in reports.iter().filter_map(|r| Some((name(r), r.gres.as_ref()?))) {
        let share = |of: Option<f64>| of.map_or("-".to_owned(), |v| format!("{:.2}", 100.0 * v));
        out += &format!("{split:<22}N-acc {:>6}   T-acc {:>6}", share(gres.n_acc), share(gres.t_acc));
        out += &format!("   (oIoU is cIoU, mIoU is gIoU; fewer than {} pixels mean nothing)\n", gres.min_pixels);
    }
    if !first.kinds.is_empty() {
        out += &format!("\nmIoU on {} by kind of sentence", name(first));
        out += if shuffled.is_some() { " (text shuffled)\n" } else { "\n" };
        for (kind, r) in &first.kinds {
            out += &format!("  {kind:<12}{:>8.2}", 100.0 * r.miou);
            if let Some(other) = shuffled.and_then(|s| s.kinds.get(kind)) {
                out += &format!("  ({:>6.2})", 100.0 * other.miou);
            }
            out += &format!("{:>10}\n", r.samples);
        }
    }
    out
}
