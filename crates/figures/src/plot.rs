//! Training curves as an SVG document: panels with axes, series of points, legends.
//!
//! The background is transparent and every colour is of middle lightness, so curves read on white and on dark pages.

use std::fmt::Write;

/// Text and axes: as far from white as from near-black.
const TEXT: &str = "#6e7a88";
const WIDTH: f64 = 1140.0;
const HEIGHT: f64 = 350.0;
const HEADER: f64 = 48.0;
const LEFT: f64 = 46.0;
const BOTTOM: f64 = 24.0;

/// Values drawn as one line.
#[derive(Debug, Clone)]
pub struct Series {
    label: String,
    colour: &'static str,
    points: Vec<(f64, f64)>,
    faint: bool,
    dashed: bool,
    marked: bool,
}

impl Series {
    /// An empty label keeps the series out of the legend.
    pub fn new(label: &str, colour: &'static str, points: Vec<(f64, f64)>) -> Self {
        Self { label: label.to_owned(), colour, points, faint: false, dashed: false, marked: false }
    }

    /// Drawn thin and pale, behind a smoothed one.
    #[must_use]
    pub fn faint(self) -> Self {
        Self { faint: true, ..self }
    }

    /// Drawn dashed.
    #[must_use]
    pub fn dashed(self) -> Self {
        Self { dashed: true, ..self }
    }

    /// A dot at each point.
    #[must_use]
    pub fn marked(self) -> Self {
        Self { marked: true, ..self }
    }

    fn values(&self) -> impl Iterator<Item = f64> {
        self.points.iter().map(|p| p.1).filter(|v| v.is_finite())
    }
}

/// How the vertical range is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Axis {
    /// From 0 to the largest value.
    FromZero,
    /// From the smallest value to the largest.
    Tight,
    /// As `Tight`, but rare spikes are cut off.
    Loss,
}

/// Series that share their axes.
#[derive(Debug, Clone)]
pub struct Panel<'a> {
    /// Heading.
    pub heading: &'a str,
    /// What is drawn.
    pub series: Vec<Series>,
    /// How the vertical range is chosen.
    pub axis: Axis,
}

/// Panels beside each other, over the same steps, as an SVG document.
#[must_use]
pub fn curves(title: &str, last_step: u64, panels: &[Panel<'_>]) -> String {
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" \
         font-family=\"ui-sans-serif, system-ui, 'Segoe UI', Helvetica, Arial, sans-serif\" font-size=\"12\">\n\
         <title>{title}</title>\n\
         <text x=\"24\" y=\"30\" font-size=\"17\" font-weight=\"600\" fill=\"{TEXT}\">{title}</text>\n\
         <text x=\"{right}\" y=\"30\" text-anchor=\"end\" fill=\"{TEXT}\">{last_step} steps</text>\n",
        title = escape(title),
        right = WIDTH - 24.0,
    );
    let gap = 24.0;
    let count = panels.len().max(1) as f64;
    let width = (WIDTH - (count + 1.0) * gap) / count;
    for (id, panel) in panels.iter().enumerate() {
        let frame = Frame {
            id,
            left: gap + id as f64 * (width + gap),
            top: 50.0,
            width,
            height: HEIGHT - 50.0 - 16.0,
            heading: panel.heading,
            last_step: last_step.max(1) as f64,
            axis: panel.axis,
        };
        svg.push_str(&frame.draw(&panel.series));
    }
    svg + "</svg>\n"
}

/// A panel's place in the document.
struct Frame<'a> {
    id: usize,
    left: f64,
    top: f64,
    width: f64,
    height: f64,
    heading: &'a str,
    last_step: f64,
    axis: Axis,
}

impl Frame<'_> {
    fn draw(&self, series: &[Series]) -> String {
        let mut svg = String::new();
        let (left, right) = (self.left + LEFT, self.left + self.width - 6.0);
        let (top, bottom) = (self.top + HEADER, self.top + self.height - BOTTOM);
        // Writing to a String cannot fail.
        let _ = writeln!(
            svg,
            "<g>\n<text x=\"{:.1}\" y=\"{:.1}\" font-size=\"13\" font-weight=\"600\" fill=\"{TEXT}\">{}</text>",
            self.left,
            self.top + 16.0,
            escape(self.heading),
        );
        let Some((low, high)) = range(series, self.axis) else {
            let _ = writeln!(
                svg,
                "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"{TEXT}\">nothing yet</text>\n</g>",
                0.5 * (left + right),
                0.5 * (top + bottom),
            );
            return svg;
        };
        let (ticks, step) = ticks(low, high, 5);
        let low = low.min(ticks.first().copied().unwrap_or(low));
        let high = high.max(ticks.last().copied().unwrap_or(high));
        let x = |step: f64| left + (right - left) * step / self.last_step;
        let y = |value: f64| bottom - (bottom - top) * (value - low) / (high - low);

        for &tick in &ticks {
            let at = y(tick);
            let _ = writeln!(
                svg,
                "<line x1=\"{left:.1}\" x2=\"{right:.1}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"{TEXT}\" \
                 stroke-opacity=\"0.22\"/>\n\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\" font-size=\"11\" fill=\"{TEXT}\">{}</text>",
                left - 7.0,
                at + 4.0,
                number(tick, step),
            );
        }
        let (marks, step) = self::ticks(0.0, self.last_step, 5);
        for &mark in marks.iter().filter(|&&mark| mark <= self.last_step) {
            let _ = writeln!(
                svg,
                "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\" font-size=\"11\" fill=\"{TEXT}\">{}</text>",
                x(mark),
                bottom + 18.0,
                steps(mark, step),
            );
        }
        let _ = writeln!(
            svg,
            "<clipPath id=\"panel{id}\"><rect x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\"/></clipPath>\n\
             <g clip-path=\"url(#panel{id})\" fill=\"none\" stroke-linejoin=\"round\" stroke-linecap=\"round\">",
            left - 4.0,
            top - 4.0,
            right - left + 8.0,
            bottom - top + 8.0,
            id = self.id,
        );
        for one in series {
            svg.push_str(&curve(one, &x, &y));
        }
        svg.push_str("</g>\n");
        svg.push_str(&self.legend(series));
        svg.push_str("</g>\n");
        svg
    }

    /// Names with last values, in one line below the heading; in two columns when there are more than two.
    fn legend(&self, series: &[Series]) -> String {
        let mut svg = String::new();
        let named: Vec<&Series> = series.iter().filter(|s| !s.label.is_empty()).collect();
        // With more than two, the legend begins beside the heading.
        let wide = named.len() > 2;
        let columns = named.len().clamp(1, 2);
        let indent = if wide { 106.0 } else { 0.0 };
        for (index, one) in named.iter().take(4).enumerate() {
            let column = (index % columns) as f64 / columns as f64;
            let left = self.left + indent + column * (self.width - indent);
            let row = if wide { index / columns } else { 1 };
            let top = self.top + 12.0 + 19.0 * row as f64;
            let dash = if one.dashed { " stroke-dasharray=\"4 3\"" } else { "" };
            let value = one.values().last().map_or(String::new(), short);
            let _ = writeln!(
                svg,
                "<line x1=\"{left:.1}\" x2=\"{:.1}\" y1=\"{top:.1}\" y2=\"{top:.1}\" stroke=\"{}\" stroke-width=\"2.5\"{dash}/>\n\
                 <text x=\"{:.1}\" y=\"{:.1}\" font-size=\"11\" fill=\"{TEXT}\">{} \
                 <tspan font-weight=\"600\">{value}</tspan></text>",
                left + 12.0,
                one.colour,
                left + 17.0,
                top + 4.0,
                escape(&one.label),
            );
        }
        svg
    }
}

fn curve(series: &Series, x: &impl Fn(f64) -> f64, y: &impl Fn(f64) -> f64) -> String {
    let mut svg = String::new();
    let points = thin(&series.points);
    let mut path = String::new();
    let mut pen_up = true;
    for &(step, value) in &points {
        if value.is_finite() {
            let _ = write!(path, "{}{:.1} {:.1}", if pen_up { "M" } else { "L" }, x(step), y(value));
        }
        pen_up = !value.is_finite();
    }
    let (width, opacity) = if series.faint { (1.0, 0.32) } else { (2.0, 1.0) };
    let dash = if series.dashed { " stroke-dasharray=\"6 4\"" } else { "" };
    let _ = writeln!(
        svg,
        "<path d=\"{path}\" stroke=\"{}\" stroke-width=\"{width}\" stroke-opacity=\"{opacity}\"{dash}/>",
        series.colour,
    );
    // Dots where a line is hard to see or has only one point.
    if (series.marked && points.len() <= 60) || points.len() == 1 {
        for &(step, value) in points.iter().filter(|p| p.1.is_finite()) {
            let _ = writeln!(svg, "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"2.8\" fill=\"{}\"/>", x(step), y(value), series.colour,);
        }
    }
    svg
}

/// At most about 800 points: of each run of neighbours the smallest and the largest, in order.
fn thin(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let size = points.len().div_ceil(400);
    if size <= 2 {
        return points.to_vec();
    }
    let mut kept = Vec::new();
    for run in points.chunks(size) {
        let by_value = |a: &&(f64, f64), b: &&(f64, f64)| a.1.total_cmp(&b.1);
        let finite = || run.iter().filter(|p| p.1.is_finite());
        match (finite().min_by(by_value), finite().max_by(by_value)) {
            (Some(&low), Some(&high)) if low.0 < high.0 => kept.extend([low, high]),
            (Some(&low), Some(&high)) if low.0 > high.0 => kept.extend([high, low]),
            (Some(&one), _) => kept.push(one),
            _ => kept.push((run[0].0, f64::NAN)),
        }
    }
    kept
}

/// Lowest and highest value to show; none without finite values.
fn range(series: &[Series], axis: Axis) -> Option<(f64, f64)> {
    let mut values: Vec<f64> = series.iter().flat_map(Series::values).collect();
    values.sort_unstable_by(f64::total_cmp);
    let (&low, &top) = (values.first()?, values.last()?);
    let low = if axis == Axis::FromZero { low.min(0.0) } else { low };
    let mut high = top;
    if axis == Axis::Loss && values.len() > 50 {
        // 99 of 100 values are in view, and the smoothed curve always is.
        let most = values[values.len() * 99 / 100];
        let smooth = series.iter().filter(|s| !s.faint).flat_map(Series::values);
        high = smooth.fold(most, f64::max);
    }
    if high > low {
        return Some((low, high));
    }
    let pad = if low == 0.0 { 1.0 } else { 0.1 * low.abs() };
    Some((low - pad, low + pad))
}

/// Round values that enclose the range, about `count` of them, and the distance between two.
fn ticks(low: f64, high: f64, count: usize) -> (Vec<f64>, f64) {
    let raw = (high - low) / count as f64;
    let power = 10f64.powf(raw.log10().floor());
    let step =
        [1.0, 2.0, 2.5, 5.0, 10.0].into_iter().map(|m| m * power).find(|&step| step >= raw * 0.999).unwrap_or(10.0 * power);
    let first = (low / step + 1e-9).floor();
    let last = (high / step - 1e-9).ceil();
    let n = (last - first).clamp(0.0, 50.0) as usize;
    ((0..=n).map(|i| (first + i as f64) * step).collect(), step)
}

/// A tick's value with as many digits as ticks a `step` apart need.
fn number(value: f64, step: f64) -> String {
    if value.abs() < step * 1e-6 {
        return "0".to_owned();
    }
    if !(1e-3..1e6).contains(&step) {
        let text = format!("{value:.2e}");
        return match text.split_once('e') {
            Some((digits, power)) => {
                let digits = digits.trim_end_matches('0').trim_end_matches('.');
                format!("{digits}e{power}")
            }
            None => text,
        };
    }
    let mut decimals = (-step.log10()).ceil().max(0.0) as usize;
    // A step of 0.25 or 2.5 needs a digit more than its power of ten says.
    let scaled = step * 10f64.powi(decimals as i32);
    if (scaled - scaled.round()).abs() > 1e-6 {
        decimals += 1;
    }
    format!("{value:.decimals$}")
}

/// A number of steps: 800, 2k, 2.5k.
fn steps(value: f64, step: f64) -> String {
    if step >= 1000.0 || (value >= 10_000.0 && step >= 100.0) {
        return if value == 0.0 { "0".to_owned() } else { format!("{}k", number(value / 1000.0, step / 1000.0)) };
    }
    number(value, step)
}

/// A last value in the legend.
fn short(value: f64) -> String {
    match value.abs() {
        v if v >= 10.0 => format!("{value:.1}"),
        v if v >= 0.01 || v == 0.0 => format!("{value:.3}"),
        _ => format!("{value:.2e}"),
    }
}

/// Text as XML.
fn escape(text: &str) -> String {
    text.chars()
        .filter(|c| !c.is_control())
        .map(|c| match c {
            '&' => "&amp;".to_owned(),
            '<' => "&lt;".to_owned(),
            '>' => "&gt;".to_owned(),
            '"' => "&quot;".to_owned(),
            c => c.to_string(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(low: f64, high: f64) -> Vec<String> {
        let (ticks, step) = ticks(low, high, 5);
        ticks.iter().map(|&tick| number(tick, step)).collect()
    }

    #[test]
    fn ticks_are_round_and_enclose() {
        assert_eq!(said(0.0, 1e-4), ["0", "2e-5", "4e-5", "6e-5", "8e-5", "1e-4"]);
        assert_eq!(said(0.13, 0.71), ["0.0", "0.2", "0.4", "0.6", "0.8"].map(|s| if s == "0.0" { "0" } else { s }));
        assert_eq!(said(30.0, 62.0), ["30", "40", "50", "60", "70"]);
        assert_eq!(said(0.0, 12.0), ["0.0", "2.5", "5.0", "7.5", "10.0", "12.5"].map(|s| if s == "0.0" { "0" } else { s }));
        assert_eq!(said(-1.0, 1.0), ["-1.0", "-0.5", "0", "0.5", "1.0"]);
    }

    #[test]
    fn steps_are_short() {
        assert_eq!(steps(800.0, 200.0), "800");
        assert_eq!(steps(2000.0, 1000.0), "2k");
        assert_eq!(steps(12_500.0, 2500.0), "12.5k");
        assert_eq!(steps(0.0, 1000.0), "0");
    }

    #[test]
    fn thinning_keeps_extremes() {
        let mut points: Vec<(f64, f64)> = (0..10_000).map(|n| (f64::from(n), 1.0)).collect();
        points[5_003].1 = 9.0;
        points[7_001].1 = f64::NAN;
        let kept = thin(&points);
        assert!(kept.len() <= 800);
        assert!(kept.contains(&(5_003.0, 9.0)));
        assert!(kept.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }
}
