//! `cargo xtask bench sets`: opening multi-task sets of their published sizes, whose masks stay on the disk.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Args;
use coco_mask::Rle;
use refcoco_data::{Dataset, DatasetSpec};
use saymask::origin::Origin;
use serde::{Deserialize, Serialize};

use super::measure::status;
use super::{OutputArgs, child, command_line};

/// Options of `bench sets`.
#[derive(Debug, Args)]
pub struct SetsArgs {
    /// Label maps of the generated ADE20K.
    #[arg(long, value_name = "N", default_value_t = 50_000)]
    maps: usize,
    /// Masks of the generated Objects365, three per image; the published set has 1.8 million.
    #[arg(long, value_name = "N", default_value_t = 1_800_000)]
    records: usize,
    #[command(flatten)]
    output: OutputArgs,
    /// Opens one set below a folder and prints its figures.
    #[arg(long, hide = true, value_names = ["SET", "FOLDER"], num_args = 2)]
    alone: Option<Vec<String>>,
}

#[derive(Serialize)]
struct Figures {
    origin: Origin,
    sets: Vec<Opened>,
}

/// What opening a set took.
#[derive(Serialize, Deserialize)]
struct Opened {
    set: String,
    images: usize,
    seconds: f64,
    /// Largest resident size of the process, and that before the set was opened.
    peak_bytes: Option<u64>,
    before_bytes: Option<u64>,
    #[serde(default)]
    bytes_on_disk: u64,
}

/// Runs the command.
pub(crate) fn run(args: &SetsArgs) -> Result<()> {
    if let Some([set, folder]) = args.alone.as_deref() {
        saymask::say!("{}", serde_json::to_string(&open(set, Path::new(folder))?)?);
        return Ok(());
    }
    let temp = Temporary(std::env::temp_dir().join(format!("saymask-sets-{}", std::process::id())));
    let mut sets = Vec::new();
    for (set, bytes_on_disk) in [("ade20k", maps(&temp.0, args.maps)?), ("objects365", records(&temp.0, args.records)?)] {
        let mut command = child::this("sets")?;
        let opened: Opened = child::figures(command.args(["--alone", set]).arg(&temp.0), "")?;
        sets.push(Opened { bytes_on_disk, ..opened });
    }
    let figures = Figures { origin: Origin::here(&command_line()), sets };
    args.output.publish("sets", &figures, &table(&figures))
}

fn open(set: &str, folder: &Path) -> Result<Opened> {
    let before_bytes = status("VmHWM:");
    let begun = Instant::now();
    let dataset = Dataset::open(&DatasetSpec::new(folder, set), "train")?;
    let seconds = begun.elapsed().as_secs_f64();
    let images = dataset.class_images.len();
    Ok(Opened { set: set.to_owned(), images, seconds, peak_bytes: status("VmHWM:"), before_bytes, bytes_on_disk: 0 })
}

/// A folder that goes when the command ends.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        // A failure to clean up must not hide the error that led here.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// ADE20K with links to one label map of 640 x 480 pixels; its bytes as if every map had its own.
fn maps(root: &Path, count: usize) -> Result<u64> {
    let set = root.join("ADEChallengeData2016");
    let folders = ["images/training", "annotations/training"].map(|below| set.join(below));
    for folder in &folders {
        std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    let names: Vec<String> = (1..=150).map(|class| format!("{class}\tclass {class}")).collect();
    std::fs::write(set.join("objectInfo150.txt"), format!("Idx\tName\n{}\n", names.join("\n")))?;
    let [image, map] = ["image.png", "map.png"].map(|name| set.join(name));
    image::GrayImage::from_fn(640, 480, |x, y| image::Luma([((x / 64 + y / 48) % 150 + 1) as u8])).save(&map)?;
    image::RgbImage::from_pixel(640, 480, image::Rgb([90, 120, 150])).save(&image)?;
    let mut links = Links::default();
    for index in 1..=count {
        links.link(&image, &folders[0].join(format!("ADE_train_{index:08}.jpg")))?;
        links.link(&map, &folders[1].join(format!("ADE_train_{index:08}.png")))?;
    }
    Ok(count as u64 * map.metadata()?.len())
}

/// Links to files, of which a file system takes so many only.
#[derive(Default)]
struct Links {
    made: usize,
}

impl Links {
    const MOST: usize = 10_000;

    fn link(&mut self, from: &Path, to: &Path) -> Result<()> {
        self.made += 1;
        let first = from.with_extension(format!("{}.png", self.made / Self::MOST));
        if !first.exists() {
            std::fs::copy(from, &first)?;
        }
        std::fs::hard_link(&first, to).with_context(|| to.display().to_string())
    }
}

/// Objects365's annotation file with `count` masks as run lengths, three per image of 640 x 480 pixels.
fn records(root: &Path, count: usize) -> Result<u64> {
    const PER_IMAGE: usize = 3;
    let folder = root.join("Object365/raw/Objects365_v1/2019-08-02");
    std::fs::create_dir_all(folder.join("train"))?;
    let (image, mut links) = (folder.join("image.png"), Links::default());
    std::fs::write(&image, [])?;
    for id in 0..count.div_ceil(PER_IMAGE) {
        links.link(&image, &folder.join(format!("train/obj365_train_{id:012}.jpg")))?;
    }
    let path = folder.join("o365_res_instances.json");
    let mut out = BufWriter::new(File::create(&path).with_context(|| path.display().to_string())?);
    let outline: Vec<f64> = (0..24)
        .map(|corner| f64::from(corner) / 24.0 * std::f64::consts::TAU)
        .flat_map(|angle| [320.0 + 90.0 * angle.cos(), 240.0 + (60.0 + 20.0 * (5.0 * angle).sin()) * angle.sin()])
        .collect();
    let counts = serde_json::to_string(&Rle::from_polygons(480, 640, &[outline])?.to_compressed())?;
    write!(out, "{{\"images\": [")?;
    for id in 0..count.div_ceil(PER_IMAGE) {
        let comma = if id == 0 { "" } else { ", " };
        write!(out, "{comma}{{\"id\": {id}, \"file_name\": \"obj365_train_{id:012}.jpg\", \"height\": 480, \"width\": 640}}")?;
    }
    write!(out, "], \"annotations\": [")?;
    for id in 0..count {
        let (comma, image, category) = (if id == 0 { "" } else { ", " }, id / PER_IMAGE, 1 + (id / PER_IMAGE + 7 * id) % 365);
        write!(
            out,
            "{comma}{{\"id\": {id}, \"image_id\": {image}, \"category_id\": {category}, \"bbox\": [230.0, 160.0, 180.0, 160.0], \
             \"area\": 20000, \"iscrowd\": 0, \"segmentation\": [{{\"size\": [480, 640], \"counts\": {counts}}}]}}"
        )?;
    }
    let categories: Vec<String> = (1..=365).map(|id| format!("{{\"id\": {id}, \"name\": \"thing {id}\"}}")).collect();
    write!(out, "], \"categories\": [{}]}}", categories.join(", "))?;
    out.flush()?;
    Ok(path.metadata()?.len())
}

fn table(figures: &Figures) -> String {
    let mut block = String::from(
        "| set | images | on disk, MB | seconds to open | peak memory, MB | of them before |\n|---|---|---|---|---|---|\n",
    );
    let mb = |bytes: Option<u64>| bytes.map_or("?".to_owned(), |bytes| format!("{:.0}", bytes as f64 / 1e6));
    for Opened { set, images, seconds, peak_bytes, before_bytes, bytes_on_disk } in &figures.sets {
        let (peak, before, disk) = (mb(*peak_bytes), mb(*before_bytes), mb(Some(*bytes_on_disk)));
        block += &format!("| {set} | {images} | {disk} | {seconds:.2} | {peak} | {before} |\n");
    }
    block += "\nADE20K's label maps are links to one of 640 x 480 pixels, counted on disk as if each were its own; Objects365 is one file of masks as \
              run lengths, three per image, whose images are empty. ";
    block + &format!("{}.", figures.origin.line())
}
