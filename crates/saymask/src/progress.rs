//! Progress: a bar on a terminal, plain lines elsewhere; always on stderr.

use std::io::IsTerminal;
use std::time::Instant;

use indicatif::{ProgressBar, ProgressStyle};
use trainer::event::Event;

/// What shows how a run goes on.
pub struct Progress {
    bar: Option<ProgressBar>,
    terminal: bool,
    begun: Instant,
    from: u64,
    total: u64,
    told: Instant,
}

impl Progress {
    /// Nothing to show yet.
    pub fn new() -> Self {
        Self {
            bar: None,
            terminal: std::io::stderr().is_terminal() && !crate::output::is_silent(),
            begun: Instant::now(),
            from: 0,
            total: 0,
            told: Instant::now(),
        }
    }

    /// Shows an event.
    pub fn on_event(&mut self, event: Event<'_>) {
        match event {
            Event::Start { step, total, parameters: (all, trained), items: (referents, sentences) } => {
                self.line(&format!(
                    "{referents} referents, {sentences} sentences; {all} parameters, {trained} trained; steps {step} to {total}"
                ));
                (self.begun, self.from, self.total) = (Instant::now(), step, total);
                if self.terminal {
                    let bar = ProgressBar::new(total);
                    bar.set_style(style());
                    bar.set_position(step);
                    self.bar = Some(bar);
                }
            }
            Event::Step { step, loss, lr } => {
                if let Some(bar) = &self.bar {
                    bar.set_position(step);
                    bar.set_message(format!("loss {loss:.4}"));
                } else if self.told.elapsed().as_secs() >= 10 || step == self.total {
                    self.told = Instant::now();
                    let rate = (step - self.from) as f64 / self.begun.elapsed().as_secs_f64().max(1e-9);
                    let left = (self.total - step) as f64 / rate.max(1e-9);
                    self.line(&format!(
                        "step {step}/{}  loss {loss:.4}  lr {lr:.2e}  {rate:.1} steps/s  {left:.0} s left",
                        self.total
                    ));
                }
            }
            Event::Caching { done, of } => self.doing("keeping features", done, of),
            Event::Evaluating { done, of, split } => self.judging(split, done, of),
            Event::Evaluated { step, report, best } => {
                let mark = if best { "  best so far" } else { "" };
                let text = format!(
                    "step {step}  {}: mIoU {:.2}  oIoU {:.2}{mark}",
                    report.split,
                    100.0 * report.miou,
                    100.0 * report.oiou
                );
                self.line(&text);
            }
            Event::Note(text) => self.line(&text),
        }
    }

    /// Shows how far the judging of a split is.
    pub fn judging(&mut self, split: &str, done: usize, of: usize) {
        self.doing(&format!("judging {split}"), done, of);
    }

    fn doing(&mut self, what: &str, done: usize, of: usize) {
        if let Some(bar) = &self.bar {
            bar.set_message(format!("{what} {done}/{of}"));
        } else if self.told.elapsed().as_secs() >= 10 {
            self.told = Instant::now();
            self.line(&format!("{what} {done}/{of}"));
        }
    }

    /// Removes the bar.
    pub fn finish(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(text),
            None => crate::note!("{text}"),
        }
    }
}

impl Default for Progress {
    fn default() -> Self {
        Self::new()
    }
}

fn style() -> ProgressStyle {
    ProgressStyle::with_template("{bar:32} {pos}/{len}  {per_sec}  {eta} left  {msg}")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
}
