//! How far the demo is: three bars on a terminal, a plain line now and then elsewhere.

use std::cell::Cell;
use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use tests::receiver::Receiver;

/// The time from one look to the next, and from one plain line to the next at the least.
const BAR_PACE: Duration = Duration::from_millis(100);
const LINE_PACE: Duration = Duration::from_secs(5);

/// The counters, and what they should come to.
pub struct Progress {
    events: usize,
    webhooks: usize,
    published: Cell<usize>,
    exported: Cell<usize>,
}

impl Progress {
    pub fn new(events: usize, webhooks: usize) -> Progress {
        Progress {
            events,
            webhooks,
            published: Cell::new(0),
            exported: Cell::new(0),
        }
    }

    pub fn add_published(&self, count: usize) {
        self.published.set(self.published.get() + count);
    }

    pub fn set_exported(&self, count: usize) {
        self.exported.set(count);
    }

    /// Shows the counters while `work` is done.
    pub async fn during<T>(&self, receiver: &Receiver, work: impl Future<Output = T>) -> T {
        let shown = async {
            if std::io::stdout().is_terminal() {
                self.show_bars(receiver).await
            } else {
                self.print_lines(receiver).await
            }
        };
        tokio::select! {
            result = work => result,
            () = shown => unreachable!("it is shown until the work is done"),
        }
    }

    async fn show_bars(&self, receiver: &Receiver) {
        let bars = Bars::new([
            ("published", self.events),
            ("webhooks received", self.webhooks),
            ("events exported", self.events),
        ]);
        loop {
            bars.set([self.published.get(), receiver.count(), self.exported.get()]);
            tokio::time::sleep(BAR_PACE).await;
        }
    }

    async fn print_lines(&self, receiver: &Receiver) {
        let mut last = String::new();
        loop {
            tokio::time::sleep(LINE_PACE).await;
            let (published, exported) = (self.published.get(), self.exported.get());
            let line = format!(
                "  published {published}/{0}, webhooks received {1}/{2}, events exported {exported}/{0}",
                self.events,
                receiver.count(),
                self.webhooks
            );
            if line != last {
                println!("{line}");
                last = line;
            }
        }
    }
}

/// The bars; they are taken off the screen when dropped, since the summary says it all again.
struct Bars {
    all: MultiProgress,
    bars: [ProgressBar; 3],
}

impl Bars {
    fn new(rows: [(&'static str, usize); 3]) -> Bars {
        let all = MultiProgress::with_draw_target(ProgressDrawTarget::stdout());
        let style = ProgressStyle::with_template("  {prefix:>17} {bar:40} {pos:>5}/{len}")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        let bars = rows.map(|(name, length)| {
            let bar = all.add(ProgressBar::new(length as u64));
            bar.with_style(style.clone()).with_prefix(name)
        });
        Bars { all, bars }
    }

    fn set(&self, positions: [usize; 3]) {
        for (bar, position) in self.bars.iter().zip(positions) {
            bar.set_position(position as u64);
        }
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        let _ = self.all.clear();
    }
}
