//! `saymask segment`: SAM, EfficientSAM and SAM-2 themselves, with points and boxes or everywhere.

mod model;

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Instant;

use anyhow::{Result, bail};
use clap::Args;
use coco_mask::Rle;
use figures::{Mask, colour, overlay_many};
use pil_ops::Image;
use sam_vit::{AutomaticConfig, PromptSet};
use serde_json::{Value, json};

use crate::images::open_image;
use crate::outputs::Outputs;
pub use model::ModelName;
pub(crate) use model::{ModelArgs, Segmenter};

/// Options of `segment`.
#[derive(Debug, Args)]
pub struct SegmentArgs {
    /// An image.
    image: PathBuf,
    /// Point on the object in pixels; `,0` behind it says that it lies beside the object. All points are one prompt.
    #[arg(long = "point", value_name = "X,Y[,LABEL]", allow_hyphen_values = true)]
    points: Vec<Point>,
    /// Box around the object in pixels; each box is a prompt of its own, together with the points.
    #[arg(long = "box", value_name = "X0,Y0,X1,Y1", allow_hyphen_values = true)]
    boxes: Vec<Corners>,
    /// Find masks all over the image instead.
    #[arg(long, conflicts_with_all = ["points", "boxes"])]
    everything: bool,
    /// Clicks along each side of the image with --everything.
    #[arg(long, value_name = "N", default_value_t = 32, requires = "everything")]
    points_per_side: usize,
    /// Predicted IoU that masks of --everything must exceed.
    #[arg(long, value_name = "IOU", default_value_t = 0.88, requires = "everything")]
    pred_iou_thresh: f32,
    /// Stability that masks of --everything must reach.
    #[arg(long, value_name = "SCORE", default_value_t = 0.95, requires = "everything")]
    stability_score_thresh: f64,
    #[command(flatten)]
    model: ModelArgs,
    /// Folder for the figure and the JSON.
    #[arg(long, value_name = "FOLDER", default_value = "segments")]
    out: PathBuf,
}

/// A click: x, y and label.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Point(pub(crate) [f64; 2], pub(crate) i32);

impl FromStr for Point {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match numbers(text).as_deref() {
            Some([x, y]) => Ok(Self([*x, *y], 1)),
            Some([x, y, label]) if *label == 0.0 || *label == 1.0 => Ok(Self([*x, *y], *label as i32)),
            Some([_, _, _]) => Err("the label must be 1 (on the object) or 0 (beside it)".into()),
            _ => Err("a point is X,Y or X,Y,LABEL in pixels, such as 320,200".into()),
        }
    }
}

/// A box: left, top, right, bottom.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Corners(pub(crate) [f64; 4]);

impl FromStr for Corners {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match numbers(text).as_deref() {
            Some([x0, y0, x1, y1]) if x0 < x1 && y0 < y1 => Ok(Self([*x0, *y0, *x1, *y1])),
            Some([_, _, _, _]) => Err("a box is X0,Y0,X1,Y1 with X0 < X1 and Y0 < Y1; is it X,Y,WIDTH,HEIGHT?".into()),
            _ => Err("a box is X0,Y0,X1,Y1 in pixels, such as 10,20,110,220".into()),
        }
    }
}

fn numbers(text: &str) -> Option<Vec<f64>> {
    text.split(',').map(|part| part.trim().parse().ok().filter(|v: &f64| v.is_finite())).collect()
}

/// A mask with what is said about it.
struct Found {
    mask: Rle,
    entry: Value,
    line: String,
}

/// Runs the command.
pub fn run(args: &SegmentArgs) -> Result<()> {
    if args.points.is_empty() && args.boxes.is_empty() && !args.everything {
        bail!("nothing is asked for; pass --point X,Y, --box X0,Y0,X1,Y1 or --everything");
    }
    let image = open_image(&args.image)?;
    inside(args, &image)?;
    let model = args.model.open()?;
    let begun = Instant::now();
    let found = if args.everything { everything(&model, &image, args)? } else { prompted(&model, &image, args)? };
    let took = begun.elapsed();
    write(args, &image, &found)?;
    crate::note!("{}: {} masks in {:.0} ms", args.image.display(), found.len(), took.as_secs_f64() * 1e3);
    Ok(())
}

/// Prompts beside the image are mistakes.
fn inside(args: &SegmentArgs, image: &Image) -> Result<()> {
    let (width, height) = (image.width() as f64, image.height() as f64);
    let place = format!("{} is {} x {} pixels (width x height)", args.image.display(), image.width(), image.height());
    for Point([x, y], _) in &args.points {
        if !(0.0..width).contains(x) || !(0.0..height).contains(y) {
            bail!("--point {x},{y} lies outside the image: {place}");
        }
    }
    for Corners([x0, y0, x1, y1]) in &args.boxes {
        if *x0 < 0.0 || *y0 < 0.0 || *x1 > width || *y1 > height {
            bail!("--box {x0},{y0},{x1},{y1} reaches outside the image: {place}");
        }
    }
    Ok(())
}

/// One prompt a box, or one of points alone. A single click is ambiguous, so the best of three masks answers it.
fn prompted(model: &Segmenter, image: &Image, args: &SegmentArgs) -> Result<Vec<Found>> {
    let clicks = args.points.iter().fold(PromptSet::default(), |set, Point(at, label)| set.with_point(*at, *label));
    let prompts: Vec<PromptSet> = match args.boxes.as_slice() {
        [] => vec![clicks],
        boxes => boxes.iter().map(|Corners(corners)| PromptSet { bbox: Some(*corners), ..clicks.clone() }).collect(),
    };
    let ambiguous = args.boxes.is_empty() && args.points.len() == 1;
    let mut found = Vec::with_capacity(prompts.len());
    for (prompt, best) in prompts.iter().zip(model.best(image, &prompts, ambiguous)?) {
        let points: Vec<Value> = prompt.points.iter().zip(&prompt.labels).map(|([x, y], label)| json!([x, y, label])).collect();
        let bbox = best.mask.bbox();
        found.push(Found {
            entry: json!({ "prompt": { "points": points, "box": prompt.bbox }, "bbox": bbox, "score": best.iou }),
            line: line(best.iou, bbox, best.mask.area()),
            mask: best.mask,
        });
    }
    Ok(found)
}

fn everything(model: &Segmenter, image: &Image, args: &SegmentArgs) -> Result<Vec<Found>> {
    let config = AutomaticConfig {
        points_per_side: args.points_per_side,
        pred_iou_thresh: args.pred_iou_thresh,
        stability_score_thresh: args.stability_score_thresh,
        ..AutomaticConfig::default()
    };
    let found = model.everything(image, &config)?.into_iter().map(|r| {
        let bbox = r.mask.bbox();
        Found {
            entry: json!({ "prompt": { "points": [[r.point[0], r.point[1], 1]], "box": null }, "bbox": bbox, "score": r.predicted_iou, "stability": r.stability }),
            line: line(r.predicted_iou, bbox, r.area),
            mask: r.mask,
        }
    });
    Ok(found.collect())
}

fn line(score: f32, [x, y, w, h]: [f64; 4], area: u64) -> String {
    format!("score {score:.3}  box {x:.0},{y:.0} {w:.0}x{h:.0}  area {area}")
}

/// The figure with all masks, large ones below; the JSON; and a line a mask.
fn write(args: &SegmentArgs, image: &Image, found: &[Found]) -> Result<()> {
    let inputs = [args.image.clone(), args.model.weights.clone()];
    let mut outputs = Outputs::open(&args.out, &inputs)?;
    let stem = &outputs.stems(&inputs[..1], &[".png".to_owned(), ".json".to_owned()])[0];
    let pixels = image.to_rgb8();
    let bytes: Vec<Vec<u8>> = found.iter().map(|f| f.mask.to_row_major()).collect();
    let mut masks = Vec::with_capacity(found.len());
    for (number, bytes) in bytes.iter().enumerate() {
        let mask = Mask::new(pixels.width(), pixels.height(), bytes)?;
        masks.push((found[number].mask.area(), (mask, colour::MASKS[number % colour::MASKS.len()])));
    }
    masks.sort_by_key(|(area, _)| std::cmp::Reverse(*area));
    let layers: Vec<_> = masks.into_iter().map(|(_, layer)| layer).collect();
    let file = outputs.figure(&format!("{stem}.png"), &overlay_many(&pixels, &layers)?)?;
    let entries: Vec<Value> = found.iter().map(entry).collect();
    let report =
        json!({ "image": args.image, "width": image.width(), "height": image.height(), "overlay": file, "masks": entries });
    outputs.json(&format!("{stem}.json"), &report)?;
    crate::say!("{}", file.display());
    for one in found {
        crate::say!("{}", one.line);
    }
    Ok(())
}

/// What is said about a mask, and the mask itself as COCO's runs.
fn entry(found: &Found) -> Value {
    let mut entry = found.entry.clone();
    entry["area"] = json!(found.mask.area());
    entry["segmentation"] = json!({ "size": [found.mask.height(), found.mask.width()], "counts": found.mask.to_compressed() });
    entry
}
