//! A labelled table of heat maps over one picture: attention by layer and word (DIT Fig. 5, EVF-SAM Fig. 5, RISAM Fig. 7).

use image::RgbImage;

use crate::draw::{Canvas, Rect, TextSize, text_width, wrap};
use crate::page::{MARGIN, fitted, scaled};
use crate::{FigureError, Rgb, colour};

const GAP: u32 = 8;
/// Pixels of the scale below the maps.
const SCALE: u32 = 160;
/// What stands behind the scale.
const LEGEND: &str = " most (at least twice the mean), each map by itself; number: most over mean";
/// Colours from little to much, dark to light so that they read in grey as well.
const RAMP: [[f32; 3]; 5] =
    [[13.0, 8.0, 65.0], [104.0, 22.0, 110.0], [196.0, 60.0, 78.0], [249.0, 142.0, 40.0], [252.0, 253.0, 160.0]];

/// Numbers on a grid over a picture, and where the map stands in a table.
#[derive(Debug, Clone, PartialEq)]
pub struct HeatMap {
    /// Label of its row.
    pub row: String,
    /// Label of its column.
    pub column: String,
    /// Values, row by row.
    pub values: Vec<f32>,
    /// Values a row of the grid.
    pub columns: usize,
    /// The part of the grid that the picture covers, (top, left, bottom, right) from 0 to 1; less than all where the network's
    /// input was padded.
    pub area: [f32; 4],
}

impl HeatMap {
    fn check(&self) -> Result<(), FigureError> {
        if self.columns > 0 && !self.values.is_empty() && self.values.len().is_multiple_of(self.columns) {
            return Ok(());
        }
        let (row, column) = (self.row.clone(), self.column.clone());
        Err(FigureError::HeatMap { row, column, found: self.values.len(), columns: self.columns })
    }

    /// The map over a picture of the given size, between cell centres bilinearly.
    fn sampled(&self, width: u32, height: u32) -> Vec<f32> {
        let (columns, rows) = (self.columns, self.values.len() / self.columns);
        let [top, left, bottom, right] = self.area;
        let place = |i: u32, of: u32, from: f32, to: f32, cells: usize| {
            let at = (from + (to - from) * (i as f32 + 0.5) / of as f32) * cells as f32 - 0.5;
            let at = at.clamp(0.0, cells as f32 - 1.0);
            (at as usize, (at as usize + 1).min(cells - 1), at.fract())
        };
        let mut out = Vec::with_capacity(width as usize * height as usize);
        for y in 0..height {
            let (y0, y1, v) = place(y, height, top, bottom, rows);
            for x in 0..width {
                let (x0, x1, u) = place(x, width, left, right, columns);
                let row = |y: usize| self.values[y * columns + x0] * (1.0 - u) + self.values[y * columns + x1] * u;
                out.push(row(y0) * (1.0 - v) + row(y1) * v);
            }
        }
        out
    }
}

/// How a table of heat maps looks.
#[derive(Debug, Clone)]
pub struct HeatPage {
    /// Heading.
    pub title: String,
    /// A quiet line below it; may be empty.
    pub subtitle: String,
    /// Lines below the maps.
    pub notes: Vec<String>,
    /// Side of the square in which each map is shown, in pixels. Default 168.
    pub tile: u32,
}

impl HeatPage {
    /// A page with a heading and a line below it.
    pub fn new(title: impl Into<String>, subtitle: impl Into<String>) -> Self {
        Self { title: title.into(), subtitle: subtitle.into(), notes: Vec::new(), tile: 168 }
    }

    /// Draws the maps over the picture, rows and columns in the order in which their labels first appear, beside the picture
    /// itself. Every map has its own scale, from its mean to its largest value or twice the mean, whichever is more, so that a
    /// map that prefers nothing stays pale. The number on it is the largest value over the mean.
    ///
    /// # Errors
    /// [`FigureError::HeatMap`] when a map does not fill its grid.
    pub fn draw(&self, image: &RgbImage, maps: &[HeatMap]) -> Result<RgbImage, FigureError> {
        maps.iter().try_for_each(HeatMap::check)?;
        let (rows, columns) = (labels(maps.iter().map(|m| &m.row)), labels(maps.iter().map(|m| &m.column)));
        let (width, height) = fitted(image.dimensions(), self.tile.clamp(48, 1024));
        let shown = scaled(image, width.max(height));
        let grey = faded(&shown);
        let aside = rows.iter().map(|row| text_width(row, TextSize::SmallBold)).max().unwrap_or(0) + GAP;
        let heads: Vec<Vec<String>> = columns.iter().map(|c| wrap(c, TextSize::SmallBold, width, 2)).collect();
        let head = heads.iter().map(|lines| lines.len() as u32 * 20).max().unwrap_or(0) + 4;
        let top = MARGIN + 32 + if self.subtitle.is_empty() { 0 } else { 24 } + 10;
        let left = MARGIN + width + 2 * GAP;
        let wide = left + aside + columns.len() as u32 * (width + GAP);
        let tall = top + head + (rows.len().max(1) as u32) * (height + GAP);
        let small = |line: &String| text_width(line, TextSize::Small);
        let lines = self.notes.iter().map(small).max().unwrap_or(0).max(small(&self.subtitle));
        let scale = left + aside + text_width("mean ", TextSize::Small) + SCALE + text_width(LEGEND, TextSize::Small);
        let least = (text_width(&self.title, TextSize::Heading).max(lines) + MARGIN).max(scale);
        let noted = self.notes.len() as u32 * 20;
        let mut canvas = Canvas::new(wide.max(least.min(4096)) + MARGIN, tall + 40 + noted + MARGIN, colour::PAPER);

        let x = i64::from(MARGIN);
        canvas.text(&self.title, x, x, TextSize::Heading, colour::INK);
        canvas.text(&self.subtitle, x, x + 32, TextSize::Small, colour::QUIET);
        canvas.paste(&shown, x, i64::from(top + head));
        let across = |column: usize| i64::from(left + aside + column as u32 * (width + GAP));
        let down = |row: usize| i64::from(top + head + row as u32 * (height + GAP));
        for (column, lines) in heads.iter().enumerate() {
            canvas.lines(lines, across(column), i64::from(top), TextSize::SmallBold, colour::INK);
        }
        for (row, label) in rows.iter().enumerate() {
            let y = down(row) + i64::from(height / 2) - 8;
            canvas.text(label, i64::from(left), y, TextSize::SmallBold, colour::INK);
        }
        for map in maps {
            let place = |all: &[&str], label: &str| all.iter().position(|l| *l == label).unwrap_or(0);
            let (x, y) = (across(place(&columns, &map.column)), down(place(&rows, &map.row)));
            canvas.paste(&heated(&grey, map), x, y);
            let text = format!("{:.1}", peak(map));
            let (text_width, label) = (text_width(&text, TextSize::Small) + 12, TextSize::Small.height() + 6);
            let (x, y) = (x + i64::from(width.saturating_sub(text_width)), y + i64::from(height.saturating_sub(label)));
            canvas.label(&text, x, y, TextSize::Small, colour::PAPER, colour::INK);
        }
        legend(&mut canvas, i64::from(left + aside), i64::from(tall) + 12);
        for (number, note) in self.notes.iter().enumerate() {
            canvas.text(note, i64::from(MARGIN), i64::from(tall) + 44 + 20 * number as i64, TextSize::Small, colour::INK);
        }
        Ok(canvas.into_image())
    }
}

/// Labels in the order of their first appearance.
fn labels<'a>(all: impl Iterator<Item = &'a String>) -> Vec<&'a str> {
    let mut found: Vec<&str> = Vec::new();
    for label in all {
        if !found.contains(&label.as_str()) {
            found.push(label);
        }
    }
    found
}

/// The picture without its colours and with less contrast, so that the heat is all that is coloured.
fn faded(image: &RgbImage) -> RgbImage {
    let mut out = image.clone();
    for pixel in out.pixels_mut() {
        let [r, g, b] = pixel.0.map(f32::from);
        let grey = (0.299 * r + 0.587 * g + 0.114 * b) * 0.7 + 30.0;
        pixel.0 = [grey as u8; 3];
    }
    out
}

/// The map's colours over the faded picture: weak where there is little, strong where there is much.
fn heated(grey: &RgbImage, map: &HeatMap) -> RgbImage {
    let values = map.sampled(grey.width(), grey.height());
    let (mean, high) = mean_and_most(&values);
    let span = (high.max(2.0 * mean) - mean).max(f32::MIN_POSITIVE);
    let mut canvas = Canvas::on(grey.clone());
    for (i, value) in values.into_iter().enumerate() {
        let share = ((value - mean) / span).clamp(0.0, 1.0);
        let (x, y) = (i as i64 % i64::from(grey.width()), i as i64 / i64::from(grey.width()));
        canvas.blend(x, y, ramp(share), (70.0 + 150.0 * share) as u8);
    }
    canvas.into_image()
}

/// Largest value over the mean, within the picture.
fn peak(map: &HeatMap) -> f32 {
    let (mean, high) = mean_and_most(&map.sampled(64, 64));
    if mean > 0.0 { high / mean } else { 1.0 }
}

fn mean_and_most(values: &[f32]) -> (f32, f32) {
    let mean = values.iter().sum::<f32>() / values.len() as f32;
    (mean, values.iter().copied().fold(mean, f32::max))
}

/// Colour of a share from 0 to 1.
fn ramp(share: f32) -> Rgb {
    let at = share.clamp(0.0, 1.0) * (RAMP.len() - 1) as f32;
    let (from, to) = (RAMP[at as usize], RAMP[(at as usize + 1).min(RAMP.len() - 1)]);
    [0, 1, 2].map(|c| (from[c] + (to[c] - from[c]) * at.fract()) as u8)
}

fn legend(canvas: &mut Canvas, x: i64, y: i64) {
    canvas.text("mean", x, y, TextSize::Small, colour::QUIET);
    let after = x + i64::from(text_width("mean ", TextSize::Small));
    for i in 0..SCALE {
        let bar = Rect { x: after + i64::from(i), y: y + 1, width: 1, height: 14 };
        canvas.fill(bar, ramp(i as f32 / (SCALE - 1) as f32));
    }
    canvas.text(LEGEND, after + i64::from(SCALE), y, TextSize::Small, colour::QUIET);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(row: &str, column: &str, hot: usize) -> HeatMap {
        let values = (0..16).map(|i| if i == hot { 1.0 } else { 0.0 }).collect();
        HeatMap { row: row.into(), column: column.into(), values, columns: 4, area: [0.0, 0.0, 1.0, 1.0] }
    }

    #[test]
    fn the_hot_cell_is_where_it_belongs() {
        let mut wide = map("a", "b", 6);
        let at = |values: &[f32]| values.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map(|(i, _)| (i % 8, i / 8));
        // Cell (2, 1) of 4 covers columns 4 and 5 and rows 2 and 3 of 8.
        assert!(matches!(at(&wide.sampled(8, 8)), Some((4 | 5, 2 | 3))));
        // A picture in the middle half of the grid's rows: row 1 is its upper half.
        wide.area = [0.25, 0.0, 0.75, 1.0];
        let place = at(&wide.sampled(8, 8));
        assert!(matches!(place, Some((4 | 5, 1 | 2))), "{place:?}");
    }

    #[test]
    fn tables_have_a_tile_for_every_label_and_refuse_broken_maps() {
        let image = RgbImage::from_pixel(40, 40, image::Rgb([200, 40, 40]));
        let page = HeatPage { tile: 40, ..HeatPage::new("words", "") };
        let one = page.draw(&image, &[map("1", "red", 5)]).unwrap();
        let four = page.draw(&image, &[map("1", "red", 5), map("1", "dot", 5), map("2", "red", 5), map("2", "dot", 5)]).unwrap();
        assert!(four.height() == one.height() + 48 && four.width() >= one.width(), "{:?}", four.dimensions());
        let broken = HeatMap { columns: 5, ..map("1", "red", 5) };
        let error = page.draw(&image, &[broken]).unwrap_err().to_string();
        assert!(error.contains("\"red\"") && error.contains("16 values"), "{error}");
    }
}
