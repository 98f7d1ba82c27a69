//! Lines on stdout and stderr that survive a reader who has gone (`saymask data verify DIR | head -3`).

use std::fmt::Arguments;
use std::io::{ErrorKind, Write};
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether somebody else says what there is to say.
static SILENT: AtomicBool = AtomicBool::new(false);

/// From now on, says nothing: one of several ranks speaks for all.
pub fn silence() {
    SILENT.store(true, Ordering::Relaxed);
}

/// Whether this process says nothing.
pub fn is_silent() -> bool {
    SILENT.load(Ordering::Relaxed)
}

/// Writes a line to stdout. When nobody reads any more, the program ends quietly; `println!` would panic.
pub fn line(text: Arguments<'_>) {
    if is_silent() {
        return;
    }
    if let Err(error) = writeln!(std::io::stdout().lock(), "{text}") {
        if error.kind() == ErrorKind::BrokenPipe {
            std::process::exit(0);
        }
        note(format_args!("error: stdout: {error}"));
        std::process::exit(2);
    }
}

/// Writes a line to stderr, if somebody reads it.
pub fn note(text: Arguments<'_>) {
    if !is_silent() {
        always(text);
    }
}

/// Writes a line to stderr, also where this process is to be silent: why it ends.
pub fn always(text: Arguments<'_>) {
    // In one piece: what starts several processes mixes what they write.
    let _ = std::io::stderr().lock().write_all(format!("{text}\n").as_bytes());
}

/// A line of results on stdout; see [`line`](crate::output::line).
#[macro_export]
macro_rules! say {
    () => { $crate::output::line(format_args!("")) };
    ($($text:tt)*) => { $crate::output::line(format_args!($($text)*)) };
}

/// A line of talk on stderr; see [`note`](crate::output::note).
#[macro_export]
macro_rules! note {
    ($($text:tt)*) => { $crate::output::note(format_args!($($text)*)) };
}
