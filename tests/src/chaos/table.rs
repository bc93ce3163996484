//! What came of a campaign: a row for every fault.

use std::time::Duration;

use super::ledger::Findings;
use super::say;

/// One fault.
#[derive(Debug, Clone, Default)]
pub struct Row {
    /// What went wrong.
    pub fault: String,
    /// By which means.
    pub how: String,
    /// How often it was hit.
    pub hits: usize,
    /// From each restart, or the end of the fault, to the first thing that went well.
    pub resumes: Vec<Duration>,
}

/// The rows, and what was found wrong in all of them.
#[derive(Debug, Default)]
pub struct Table {
    rows: Vec<Row>,
    lost: usize,
    doubled: usize,
    reordered: usize,
    orders: usize,
}

impl Table {
    /// The row of a fault, made when it is new.
    pub fn row(&mut self, fault: &str, how: &str) -> &mut Row {
        if let Some(at) = self.rows.iter().position(|row| row.fault == fault) {
            return &mut self.rows[at];
        }
        let (fault, how) = (fault.to_owned(), how.to_owned());
        self.rows.push(Row { fault, how, ..Row::default() });
        self.rows.last_mut().unwrap()
    }

    /// The rows.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// All hits.
    pub fn hits(&self) -> usize {
        self.rows.iter().map(|row| row.hits).sum()
    }

    /// Adds what was found among so many acknowledged orders; fails when anything was.
    pub fn judge(&mut self, orders: usize, found: &Findings, context: impl FnOnce() -> String) {
        self.orders += orders;
        self.lost += found.lost.len();
        self.doubled += found.doubled.len();
        self.reordered += found.reordered.len();
        assert!(found.none(), "{found:#?}\n{}", context());
    }

    /// Prints it as it stands in the documentation.
    pub fn print(&self, title: &str) {
        let mut text = format!(
            "\n{title}\n\n| fault | how | hits | resumed after: median | longest |\n|---|---|---:|---:|---:|\n"
        );
        for row in &self.rows {
            let (median, longest) = middle_and_end(&row.resumes);
            let line =
                format!("| {} | {} | {} | {median} | {longest} |\n", row.fault, row.how, row.hits);
            text.push_str(&line);
        }
        let all: Vec<_> = self.rows.iter().flat_map(|row| row.resumes.iter().copied()).collect();
        let (median, longest) = middle_and_end(&all);
        let (lost, doubled, reordered) = (self.lost, self.doubled, self.reordered);
        text.push_str(&format!(
            "| **all** | | {} | {median} | {longest} |\n\n{} orders acknowledged: {lost} lost, \
             {doubled} doubled, {reordered} reordered.\n",
            self.hits(),
            self.orders,
        ));
        say(&text);
    }
}

fn middle_and_end(times: &[Duration]) -> (String, String) {
    let mut sorted = times.to_vec();
    sorted.sort();
    let show = |at: Option<&Duration>| {
        at.map_or_else(String::new, |time| format!("{:.2} s", time.as_secs_f64()))
    };
    (show(sorted.get(sorted.len() / 2)), show(sorted.last()))
}
