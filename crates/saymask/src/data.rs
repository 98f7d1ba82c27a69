//! `saymask data synth` and `data verify`.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Subcommand, ValueEnum};
use refcoco_data::{SynthConfig, SynthFormat, generate, verify, verify_deep};

/// What to do with data.
#[derive(Debug, Subcommand)]
pub enum DataCommand {
    /// Generate a set in RefCOCO's file formats (refcoco, refcoco+, refcocog, and grefcoco with several targets or none,
    /// over the same images), in PhraseCut's, or in those of sets that have classes instead of sentences.
    Synth(SynthArgs),
    /// Count a folder's splits, compare known sets with the published counts, and name every fault.
    Verify(VerifyArgs),
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
    /// Folder that holds `refcoco`, `images`, `VGPhraseCut_v0`, `ade20k` and so on.
    dir: PathBuf,
    /// Decode every image instead of its header alone.
    #[arg(long)]
    deep: bool,
    /// Print counts, errors and warnings as JSON.
    #[arg(long)]
    json: bool,
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
            let report = if args.deep { verify_deep(&args.dir)? } else { verify(&args.dir)? };
            if args.json {
                crate::say!("{}", serde_json::to_string_pretty(&report)?);
            } else {
                crate::say!("{report}");
            }
            Ok(report.is_ok())
        }
    }
}
