//! A page of examples: image | expression | truth | prediction.

use image::RgbImage;
use image::imageops::{FilterType, resize};

use crate::draw::{Canvas, Rect, TextSize, text_width, wrap};
use crate::overlay::{outline, tint};
use crate::{FigureError, Mask, Rgb, colour};

pub(crate) const MARGIN: u32 = 28;
const GAP: u32 = 18;
const TEXT_COLUMN: u32 = 236;
/// Thickness of outlines on a page, in pixels.
const OUTLINE: u32 = 2;

/// One example.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    /// The image.
    pub image: &'a RgbImage,
    /// The sentence.
    pub expression: &'a str,
    /// A quiet line below the sentence, such as its kind; may be empty.
    pub note: &'a str,
    /// What is right, if known.
    pub truth: Option<Mask<'a>>,
    /// What the model said.
    pub prediction: Mask<'a>,
}

/// How a page of examples looks.
#[derive(Debug, Clone)]
pub struct Page {
    /// Heading of the page.
    pub title: String,
    /// A quiet line below it; may be empty.
    pub subtitle: String,
    /// Side of the square in which each image is shown, in pixels. Default 256.
    pub tile: u32,
}

impl Default for Page {
    fn default() -> Self {
        Self { title: "Predictions".to_owned(), subtitle: String::new(), tile: 256 }
    }
}

impl Page {
    /// A page with a heading and a line below it.
    pub fn new(title: impl Into<String>, subtitle: impl Into<String>) -> Self {
        Self { title: title.into(), subtitle: subtitle.into(), ..Self::default() }
    }

    /// Draws the rows below each other.
    ///
    /// The truth is green, the prediction blue with the truth's outline in green over it, and the IoU stands on a label whose
    /// colour says how good it is.
    ///
    /// # Errors
    /// [`FigureError::MaskSize`] when a mask is not as large as its image.
    pub fn draw(&self, rows: &[Row<'_>]) -> Result<RgbImage, FigureError> {
        for row in rows {
            row.prediction.fits(row.image)?;
            row.truth.map_or(Ok(()), |truth| truth.fits(row.image))?;
        }
        let tile = self.tile.clamp(64, 2048);
        let heights: Vec<u32> = rows.iter().map(|row| self.row_height(row, tile)).collect();
        let top = self.header_height() + 30;
        let body: u32 = heights.iter().map(|h| h + GAP).sum();
        let width = 2 * MARGIN + 3 * tile + TEXT_COLUMN + 3 * GAP;
        let mut canvas = Canvas::new(width, top + body + MARGIN - GAP, colour::PAPER);
        self.header(&mut canvas, tile);
        let mut y = top;
        for (row, height) in rows.iter().zip(heights) {
            draw_row(&mut canvas, row, tile, y);
            y += height + GAP;
        }
        Ok(canvas.into_image())
    }

    fn header_height(&self) -> u32 {
        MARGIN + 32 + if self.subtitle.is_empty() { 0 } else { 24 } + 14
    }

    fn row_height(&self, row: &Row<'_>, tile: u32) -> u32 {
        let lines = expression_lines(row).len() as u32;
        let note = if row.note.is_empty() { 0 } else { 26 };
        fitted(row.image.dimensions(), tile).1.max(lines * 25 + note)
    }

    fn header(&self, canvas: &mut Canvas, tile: u32) {
        let width = canvas.size().0;
        let letters = ((width - 2 * MARGIN) / TextSize::Heading.letter()) as usize;
        let title: String = self.title.chars().take(letters).collect();
        let x = i64::from(MARGIN);
        canvas.text(&title, x, x, TextSize::Heading, colour::INK);
        if !self.subtitle.is_empty() {
            canvas.text(&self.subtitle, x, x + 32, TextSize::Small, colour::QUIET);
        }
        let y = i64::from(self.header_height());
        let columns = columns(tile);
        canvas.fill(Rect { x, y: y - 8, width: width - 2 * MARGIN, height: 1 }, colour::LINE);
        let headings =
            [("image", None), ("expression", None), ("truth", Some(colour::TRUTH)), ("prediction", Some(colour::PREDICTION))];
        for ((heading, swatch), x) in headings.into_iter().zip(columns) {
            let mut x = x;
            if let Some(ground) = swatch {
                let square = Rect { x, y: y + 3, width: 11, height: 11 };
                canvas.fill(square, ground);
                x += 18;
            }
            canvas.text(heading, x, y, TextSize::SmallBold, colour::QUIET);
            if heading == "prediction" {
                let x = x + i64::from(text_width("prediction  ", TextSize::Small));
                let square = Rect { x, y: y + 3, width: 11, height: 11 };
                canvas.frame(square, 2, colour::TRUTH);
                canvas.text("truth", x + 18, y, TextSize::Small, colour::QUIET);
            }
        }
    }
}

/// Left edges of image, expression, truth and prediction.
fn columns(tile: u32) -> [i64; 4] {
    let image = MARGIN;
    let text = image + tile + GAP;
    let truth = text + TEXT_COLUMN + GAP;
    [image, text, truth, truth + tile + GAP].map(i64::from)
}

fn expression_lines(row: &Row<'_>) -> Vec<String> {
    wrap(row.expression, TextSize::Normal, TEXT_COLUMN, 9)
}

fn draw_row(canvas: &mut Canvas, row: &Row<'_>, tile: u32, y: u32) {
    let [image_x, text_x, truth_x, prediction_x] = columns(tile);
    let y = i64::from(y);
    let shown = scaled(row.image, tile);
    canvas.paste(&shown, image_x, y);

    let lines = expression_lines(row);
    canvas.lines(&lines, text_x, y, TextSize::Normal, colour::INK);
    if !row.note.is_empty() {
        let y = y + lines.len() as i64 * 25 + 6;
        canvas.text(row.note, text_x, y, TextSize::Small, colour::QUIET);
    }

    let truth = row.truth.map(|truth| scaled_mask(&truth, tile));
    let truth = truth.as_ref().map(Bitmap::mask);
    match &truth {
        Some(truth) => {
            let mut cell = Canvas::on(shown.clone());
            tint(&mut cell, truth, colour::TRUTH, 128);
            outline(&mut cell, truth, colour::TRUTH, OUTLINE, true);
            canvas.paste(&cell.into_image(), truth_x, y);
        }
        None => canvas.text("not known", truth_x, y, TextSize::Small, colour::QUIET),
    }

    let prediction = scaled_mask(&row.prediction, tile);
    let prediction = prediction.mask();
    let mut cell = Canvas::on(shown);
    tint(&mut cell, &prediction, colour::PREDICTION, 128);
    outline(&mut cell, &prediction, colour::PREDICTION, OUTLINE, true);
    if let Some(truth) = &truth {
        outline(&mut cell, truth, colour::TRUTH, OUTLINE, false);
    }
    if let Some(iou) = row.truth.and_then(|truth| truth.iou(&row.prediction)) {
        let text = format!("IoU {:.1}", 100.0 * iou);
        cell.label(&text, 0, 0, TextSize::SmallBold, [255, 255, 255], grade(iou));
    }
    canvas.paste(&cell.into_image(), prediction_x, y);
}

fn grade(iou: f64) -> Rgb {
    match iou {
        _ if iou > 0.7 => colour::GOOD,
        _ if iou >= 0.5 => colour::FAIR,
        _ => colour::BAD,
    }
}

/// Size at which an image is shown in a square: whole multiples for small ones, so that pixels stay square and masks crisp.
pub(crate) fn fitted((width, height): (u32, u32), tile: u32) -> (u32, u32) {
    let long = width.max(height).max(1);
    let times = tile / long;
    if times >= 1 && long * times * 5 >= tile * 4 {
        return ((width * times).max(1), (height * times).max(1));
    }
    let side = |side: u32| {
        let exact = u64::from(side) * u64::from(tile);
        ((exact + u64::from(long) / 2) / u64::from(long)).max(1) as u32
    };
    (side(width), side(height))
}

pub(crate) fn scaled(image: &RgbImage, tile: u32) -> RgbImage {
    let (width, height) = fitted(image.dimensions(), tile);
    if (width, height) == image.dimensions() {
        return image.clone();
    }
    if image.dimensions().0 == 0 || image.dimensions().1 == 0 {
        return RgbImage::new(width, height);
    }
    resize(image, width, height, FilterType::CatmullRom)
}

struct Bitmap {
    width: u32,
    height: u32,
    bytes: Vec<u8>,
}

impl Bitmap {
    fn mask(&self) -> Mask<'_> {
        Mask { width: self.width, height: self.height, bytes: &self.bytes }
    }
}

/// The mask at the size at which its image is shown: each pixel takes the value at its centre.
fn scaled_mask(mask: &Mask<'_>, tile: u32) -> Bitmap {
    let (from_width, from_height) = mask.size();
    let (width, height) = fitted(mask.size(), tile);
    let source =
        |at: u32, to: u32, from: u32| i64::from(((u64::from(at) * 2 + 1) * u64::from(from) / (2 * u64::from(to))) as u32);
    let mut bytes = Vec::with_capacity(width as usize * height as usize);
    for y in 0..height {
        for x in 0..width {
            let inside = mask.at(source(x, width, from_width), source(y, height, from_height));
            bytes.push(u8::from(inside));
        }
    }
    Bitmap { width, height, bytes }
}

/// A figure with a line of text below it.
#[derive(Debug, Clone, Copy)]
pub struct Tile<'a> {
    /// The figure.
    pub image: &'a RgbImage,
    /// Text below it; may be empty.
    pub caption: &'a str,
}

/// Lays figures out in a grid of `columns`, each fitted into a square of `tile` pixels, with captions below and a heading above.
#[must_use]
pub fn compose_tiles(title: &str, tiles: &[Tile<'_>], columns: usize, tile: u32) -> RgbImage {
    let columns = columns.clamp(1, tiles.len().max(1)) as u32;
    let tile = tile.clamp(32, 2048);
    let rows = (tiles.len() as u32).div_ceil(columns);
    let top = if title.is_empty() { MARGIN } else { MARGIN + 40 };
    let sizes: Vec<(u32, u32)> = tiles.iter().map(|t| fitted(t.image.dimensions(), tile)).collect();
    let caption = tiles.iter().map(|t| wrap(t.caption, TextSize::Small, tile, 2).len() as u32 * 20).max().unwrap_or(0);
    let tall = sizes.iter().map(|s| s.1).max().unwrap_or(0) + if caption > 0 { caption + 6 } else { 0 };
    let least = text_width(title, TextSize::Heading) + 2 * MARGIN;
    let width = (2 * MARGIN + columns * tile + (columns - 1) * GAP).max(least.min(4096));
    let height = top + rows * (tall + GAP) + MARGIN - GAP.min(rows * GAP);
    let mut canvas = Canvas::new(width, height, colour::PAPER);
    canvas.text(title, i64::from(MARGIN), i64::from(MARGIN), TextSize::Heading, colour::INK);
    for (index, (one, size)) in tiles.iter().zip(sizes).enumerate() {
        let (column, row) = (index as u32 % columns, index as u32 / columns);
        let x = i64::from(MARGIN + column * (tile + GAP));
        let y = i64::from(top + row * (tall + GAP));
        canvas.paste(&scaled(one.image, tile), x, y);
        let lines = wrap(one.caption, TextSize::Small, tile, 2);
        canvas.lines(&lines, x, y + i64::from(size.1) + 6, TextSize::Small, colour::INK);
    }
    canvas.into_image()
}
