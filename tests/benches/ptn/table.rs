//! The results: what was measured, against what, the ratio, the goal.

use serde_json::{Value, json};

/// A number with its unit.
#[derive(Debug, Clone)]
pub(crate) struct Measure(pub(crate) f64, pub(crate) &'static str);

impl std::fmt::Display for Measure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self(value, unit) = self;
        match value {
            v if v.abs() >= 1000.0 => write!(f, "{v:.0} {unit}"),
            v if v.abs() >= 10.0 => write!(f, "{v:.1} {unit}"),
            v => write!(f, "{v:.2} {unit}"),
        }
    }
}

/// What a row is compared with.
#[derive(Debug)]
pub(crate) enum Against {
    Nothing,
    /// Measured, under this name.
    This(&'static str, Measure),
    /// It was not measured.
    Missing(&'static str),
}

/// What is wanted of a row.
#[derive(Debug)]
pub(crate) enum Goal {
    None,
    /// The ratio is at most this.
    RatioAtMost(f64),
    /// The ratio is at least this.
    RatioAtLeast(f64),
    /// The measured value is at most this, in its unit.
    AtMost(f64),
}

#[derive(Debug)]
struct Row {
    section: &'static str,
    what: String,
    measured: Measure,
    against: Against,
    ratio: Option<f64>,
    goal: Goal,
}

impl Row {
    fn met(&self) -> Option<bool> {
        match self.goal {
            Goal::None => None,
            Goal::RatioAtMost(most) => self.ratio.map(|r| r <= most),
            Goal::RatioAtLeast(least) => self.ratio.map(|r| r >= least),
            Goal::AtMost(most) => Some(self.measured.0 <= most),
        }
    }

    fn goal(&self) -> String {
        let unit = self.measured.1;
        match self.goal {
            Goal::None => String::new(),
            Goal::RatioAtMost(r) => format!("<= {r}x"),
            Goal::RatioAtLeast(r) => format!(">= {r}x"),
            Goal::AtMost(v) => format!("<= {}", Measure(v, unit)),
        }
    }

    fn cells(&self) -> [String; 6] {
        let (against, ratio) = match &self.against {
            Against::Nothing => (String::new(), String::new()),
            Against::This(name, measure) => {
                (format!("{name}: {measure}"), self.ratio.map_or(String::new(), show_ratio))
            }
            Against::Missing(name) => (format!("{name}: n/a"), "n/a".to_owned()),
        };
        let met = match self.met() {
            Some(true) => "yes",
            Some(false) => "no",
            None => "",
        };
        let what = format!("{}: {}", self.section, self.what);
        [what, self.measured.to_string(), against, ratio, self.goal(), met.to_owned()]
    }
}

fn show_ratio(ratio: f64) -> String {
    if ratio >= 20.0 { format!("{ratio:.0}x") } else { format!("{ratio:.2}x") }
}

/// All rows so far.
#[derive(Debug, Default)]
pub(crate) struct Table {
    section: &'static str,
    rows: Vec<Row>,
    notes: Vec<String>,
}

impl Table {
    pub(crate) fn begin(&mut self, section: &'static str) {
        self.section = section;
    }

    /// A row whose ratio is `measured / against`.
    pub(crate) fn row(
        &mut self,
        what: impl Into<String>,
        measured: Measure,
        against: Against,
        goal: Goal,
    ) {
        let ratio = match &against {
            Against::This(_, base) => Some(measured.0 / base.0),
            _ => None,
        };
        self.push(what.into(), measured, against, ratio, goal);
    }

    /// A row whose ratio is `against / measured`: how many times less it is.
    pub(crate) fn times_less(
        &mut self,
        what: impl Into<String>,
        measured: Measure,
        against: Against,
        goal: Goal,
    ) {
        let ratio = match &against {
            Against::This(_, base) => Some(base.0 / measured.0),
            _ => None,
        };
        self.push(what.into(), measured, against, ratio, goal);
    }

    fn push(
        &mut self,
        what: String,
        measured: Measure,
        against: Against,
        ratio: Option<f64>,
        goal: Goal,
    ) {
        self.rows.push(Row { section: self.section, what, measured, against, ratio, goal });
    }

    /// Something to know about the run.
    pub(crate) fn note(&mut self, note: impl Into<String>) {
        self.notes.push(format!("{}: {}", self.section, note.into()));
    }

    pub(crate) fn print(&self) {
        let head = ["what", "measured", "against", "ratio", "goal", "met"].map(str::to_owned);
        let lines: Vec<[String; 6]> =
            std::iter::once(head).chain(self.rows.iter().map(Row::cells)).collect();
        let width = |column: usize| lines.iter().map(|l| l[column].chars().count()).max();
        let widths: Vec<usize> = (0..6).map(|column| width(column).unwrap_or(0)).collect();
        for (n, line) in lines.iter().enumerate() {
            let cells = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
            println!("| {} |", cells.collect::<Vec<_>>().join(" | "));
            if n == 0 {
                let rule = widths.iter().map(|width| "-".repeat(*width));
                println!("| {} |", rule.collect::<Vec<_>>().join(" | "));
            }
        }
        for note in &self.notes {
            println!("{note}");
        }
        println!("machine: {}", machine());
    }

    pub(crate) fn print_json(&self) {
        let rows: Vec<Value> = self
            .rows
            .iter()
            .map(|row| {
                let against = match &row.against {
                    Against::This(name, m) => json!({"what": name, "value": m.0, "unit": m.1}),
                    Against::Missing(name) => json!({"what": name, "value": null}),
                    Against::Nothing => Value::Null,
                };
                json!({
                    "section": row.section, "what": row.what, "value": row.measured.0,
                    "unit": row.measured.1, "against": against, "ratio": row.ratio,
                    "goal": row.goal(), "met": row.met(),
                })
            })
            .collect();
        println!("{}", json!({"rows": rows, "notes": self.notes, "machine": machine()}));
    }
}

fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = read("/proc/sys/kernel/osrelease");
    let info = read("/proc/cpuinfo");
    let model = info.lines().find_map(|l| l.strip_prefix("model name")?.split_once(": "));
    let load = read("/proc/loadavg");
    let mut load = load.split_whitespace();
    format!(
        "{cores} cores ({}), kernel {}, temporary files on {}, load {} at the end",
        model.map_or("unknown", |(_, name)| name),
        kernel.trim(),
        file_system(),
        load.next().unwrap_or("unknown"),
    )
}

/// The kind of file system below the folder of temporary files, where the spools are.
fn file_system() -> String {
    let folder = std::env::temp_dir();
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
    let fits = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        let (place, kind) = (words.next()?, words.next()?);
        folder.starts_with(place).then(|| (place.len(), kind.to_owned()))
    });
    fits.max_by_key(|(length, _)| *length).map_or_else(|| "unknown".to_owned(), |(_, kind)| kind)
}
