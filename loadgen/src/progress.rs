//! Progress: one bar on standard error, for a person who waits. Where standard error is no
//! terminal, nothing is drawn.

use indicatif::{ProgressBar, ProgressStyle};

const TEMPLATE: &str = "{prefix:>20} {bar:32} {percent:>3}% {wide_msg}";

/// See the file's head.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
}

impl Progress {
    pub(crate) fn new() -> Progress {
        let bar = ProgressBar::new(1);
        // The template is a constant that indicatif takes; a test goes through here.
        if let Ok(style) = style() {
            bar.set_style(style);
        }
        Progress { bar }
    }

    /// A new phase, of `total` steps.
    pub(crate) fn phase(&self, name: &str, total: u64) {
        self.bar.reset();
        self.bar.set_length(total);
        self.bar.set_prefix(name.to_owned());
        self.bar.set_message("");
    }

    /// `done` steps of the phase are done.
    pub(crate) fn at(&self, done: u64) {
        self.bar.set_position(done.min(self.bar.length().unwrap_or(done)));
    }

    /// `more` steps are done.
    pub(crate) fn advance(&self, more: u64) {
        self.bar.inc(more);
    }

    /// What goes on.
    pub(crate) fn tell(&self, line: &str) {
        self.bar.set_message(line.to_owned());
    }

    /// Takes the bar away.
    pub(crate) fn done(&self) {
        self.bar.finish_and_clear();
    }
}

fn style() -> Result<ProgressStyle, indicatif::style::TemplateError> {
    Ok(ProgressStyle::with_template(TEMPLATE)?.progress_chars("█▉▊▋▌▍▎▏ "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_can_be_drawn() {
        assert!(style().is_ok());
        let progress = Progress::new();
        progress.phase("x", 10);
        progress.at(12);
        assert_eq!(progress.bar.position(), 10);
        progress.done();
    }
}
