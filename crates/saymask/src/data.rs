//! `saymask data synth`, `data verify` and `data convert`.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Subcommand, ValueEnum};
use refcoco_data::{
    ConvertTo, DatasetSpec, OwnFormat, SynthConfig, SynthFormat, convert, generate, verify, verify_deep, verify_own,
};

/// What to do with data.
#[derive(Debug, Subcommand)]
pub enum DataCommand {
    /// Generate a set in RefCOCO's file formats (refcoco, refcoco+, refcocog, and grefcoco with several targets or none,
    /// over the same images), in PhraseCut's, or in those of sets that have classes instead of sentences.
    Synth(SynthArgs),
    /// Count a folder's splits, compare known sets with the published counts, and name every fault.
    Verify(VerifyArgs),
    /// Write a set anew in another form: REFER's files, COCO's or lines of JSON. Masks stay the same to the pixel.
    Convert(ConvertArgs),
}

/// Options of `data synth`.
#[derive(Debug, Args)]
pub struct SynthArgs {
    /// Folder to make; it must not exist yet.
    out: PathBuf,
    /// Number of images.
    #[arg(long, default_value_t = 400)]
    images: usize,
    /// Long side of each image, in pixels.
    #[arg(long, default_value_t = 128)]
    size: u32,
    /// Seed; the same seed gives the same bytes.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Whose files to write.
    #[arg(long, value_enum, default_value_t = Format::Refcoco)]
    format: Format,
}

/// File formats of generated sets.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    /// refcoco, refcoco+, refcocog and grefcoco.
    Refcoco,
    /// phrasecut.
    Phrasecut,
    /// ade20k: label maps, a class per shape.
    Ade20k,
    /// mapillary: label maps with a palette.
    Mapillary,
    /// humanparsing: label maps, its own classes given to shapes.
    Humanparsing,
    /// partimagenet: upper and lower halves of shapes, as polygons.
    Partimagenet,
    /// pascal_part: left and right halves of shapes, as run lengths.
    PascalPart,
    /// objects365: shapes that occur once in their image.
    Objects365,
    /// refcoco's sets and the six above side by side.
    Multitask,
}

/// Options of `data verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// Folder that holds `refcoco`, `images`, `VGPhraseCut_v0`, `ade20k` and so on, or data of your own.
    dir: PathBuf,
    /// How data of your own are written; found by looking if absent.
    #[arg(long, value_name = "FORMAT", value_parser = own_format)]
    format: Option<OwnFormat>,
    /// Decode every image instead of its header alone.
    #[arg(long)]
    deep: bool,
    /// Print counts, errors and warnings as JSON.
    #[arg(long)]
    json: bool,
}

/// Options of `data convert`.
#[derive(Debug, Args)]
pub struct ConvertArgs {
    /// Folder of the data.
    dir: PathBuf,
    /// Folder to make; it must not exist yet.
    out: PathBuf,
    /// What to write.
    #[arg(long, value_enum)]
    to: To,
    /// What to read: coco, jsonl, masks, label-studio, yolo-seg, or a published set such as refcoco or refcocog:umd. Found by
    /// looking if absent.
    #[arg(long, value_name = "SET[:BY]")]
    from: Option<String>,
}

/// Whose files are written.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum To {
    /// REFER's: refcoco, or grefcoco where a sentence means several targets or none.
    Refer,
    /// COCO's instances with sentences in the annotations.
    Coco,
    /// A line of JSON per record.
    Jsonl,
}

fn own_format(word: &str) -> Result<OwnFormat, String> {
    OwnFormat::named(word).ok_or_else(|| format!("use one of {}", OwnFormat::names()))
}

impl ConvertArgs {
    fn spec(&self) -> Result<DatasetSpec> {
        let Some(from) = &self.from else { return Ok(DatasetSpec::new(&self.dir, OwnFormat::detect(&self.dir)?.name())) };
        let (set, by) = from.split_once(':').map_or((from.as_str(), None), |(set, by)| (set, Some(by)));
        let mut spec = DatasetSpec::new(&self.dir, set);
        if let Some(by) = by {
            spec.split_by = by.to_owned();
        }
        Ok(spec)
    }

    fn run(&self) -> Result<()> {
        let to = match self.to {
            To::Refer => ConvertTo::Refer,
            To::Coco => ConvertTo::Coco,
            To::Jsonl => ConvertTo::Jsonl,
        };
        let made = convert(&self.spec()?, to, &self.out)?;
        crate::say!(
            "{}: {} images, {} referents, {} sentences",
            made.path.display(),
            made.images,
            made.referents,
            made.sentences
        );
        for (split, images) in &made.splits {
            crate::say!("  {split:<12}{images:>8} images");
        }
        let (root, spec) = (made.path.display(), &made.spec);
        crate::say!("Next: data.root={root} data.dataset={} data.split_by={}", spec.name, spec.split_by);
        Ok(())
    }
}

/// Runs the command; whether nothing is wrong.
pub fn run(command: &DataCommand) -> Result<bool> {
    match command {
        DataCommand::Synth(args) => {
            let format = match args.format {
                Format::Refcoco => SynthFormat::Refcoco,
                Format::Phrasecut => SynthFormat::Phrasecut,
                Format::Ade20k => SynthFormat::Ade20k,
                Format::Mapillary => SynthFormat::Mapillary,
                Format::Humanparsing => SynthFormat::Humanparsing,
                Format::Partimagenet => SynthFormat::Partimagenet,
                Format::PascalPart => SynthFormat::PascalPart,
                Format::Objects365 => SynthFormat::Objects365,
                Format::Multitask => SynthFormat::Multitask,
            };
            let SynthArgs { images, size, seed, .. } = *args;
            let config = SynthConfig { images, size, seed, format, ..SynthConfig::default() };
            let summary = generate(&config, &args.out)?;
            crate::say!("{}: {} images, {} objects", summary.path.display(), summary.images, summary.objects);
            for (set, referents, sentences) in &summary.sets {
                crate::say!("  {set:<24}{referents:>8} referents{sentences:>9} sentences");
            }
            Ok(true)
        }
        DataCommand::Verify(args) => {
            let report = match args.format {
                Some(format) => verify_own(&args.dir, format, args.deep)?,
                None if args.deep => verify_deep(&args.dir)?,
                None => verify(&args.dir)?,
            };
            if args.json {
                crate::say!("{}", serde_json::to_string_pretty(&report)?);
            } else {
                crate::say!("{report}");
            }
            Ok(report.is_ok())
        }
        DataCommand::Convert(args) => args.run().map(|()| true),
    }
}
