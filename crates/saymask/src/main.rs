//! The Saymask command line: arguments to commands, errors to exit codes.

use clap::{Parser, Subcommand};
use saymask::{
    agree, attend, check, compare, data, device, error, eval, export, finetune, predict, report, segment, serve, track, train,
    weights,
};

/// Training allocates and frees many large tensors; the system's allocator would hand their pages back each time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Say it, mask it: text-prompted Segment Anything.
///
/// Exit code 0: done; 1: a check or test failed; 2: the command could not be carried out.
#[derive(Parser)]
#[command(name = "saymask", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Train a model; with nothing else, the demonstration.
    Train(train::TrainArgs),
    /// Teach a model your own pictures: looks at a folder, trains, and judges before and after on held-out images.
    Finetune(finetune::FinetuneArgs),
    /// Judge a trained model on splits of data sets, or with --from the masks that any program wrote.
    Eval(eval::EvalArgs),
    /// Lay the figures of runs beside each other and beside the paper's.
    Compare(compare::CompareArgs),
    /// Write a run's report as one HTML file, or one that compares several runs.
    Report(report::ReportArgs),
    /// Find what sentences say in an image or a folder of images.
    Predict(predict::PredictArgs),
    /// Draw where text and image look at each other, layer by layer.
    Attend(attend::AttendArgs),
    /// Cut objects out of an image with Segment Anything: points, boxes, or everything.
    Segment(segment::SegmentArgs),
    /// Serve a page, an HTTP API, KServe v2 and a Label Studio backend.
    Serve(serve::ServeArgs),
    /// Follow what sentences say through a film.
    Track(track::TrackArgs),
    /// Write a trained model as safetensors under official names.
    Export(export::ExportArgs),
    /// Make or check data.
    #[command(subcommand)]
    Data(data::DataCommand),
    /// List the published weights that configs ask for: where they are published, and which are here.
    Weights(weights::WeightsArgs),
    /// List what --device may say here, and why the rest is missing.
    Devices(device::DevicesArgs),
    /// Run golden files against our models.
    Check(check::CheckArgs),
    /// Compare a trained model's masks on two devices.
    Agree(agree::AgreeArgs),
}

fn main() {
    let done = match Cli::parse().command {
        Command::Train(args) => train::run(args).map(|()| true),
        Command::Finetune(args) => finetune::run(&args).map(|()| true),
        Command::Eval(args) => eval::run(&args).map(|()| true),
        Command::Compare(args) => compare::run(&args).map(|()| true),
        Command::Report(args) => report::run(&args).map(|()| true),
        Command::Predict(args) => predict::run(&args).map(|()| true),
        Command::Attend(args) => attend::run(&args).map(|()| true),
        Command::Segment(args) => segment::run(&args).map(|()| true),
        Command::Serve(args) => serve::run(&args).map(|()| true),
        Command::Track(args) => track::run(&args).map(|()| true),
        Command::Export(args) => export::run(&args).map(|()| true),
        Command::Data(command) => data::run(&command),
        Command::Weights(args) => weights::run(&args).map(|()| true),
        Command::Devices(args) => device::run(&args).map(|()| true),
        Command::Check(args) => check::check(&args),
        Command::Agree(args) => agree::run(&args),
    };
    match done {
        Ok(true) => {}
        Ok(false) => std::process::exit(1),
        Err(error) => {
            saymask::note!("error: {}", error::chain(&error));
            std::process::exit(2);
        }
    }
}
