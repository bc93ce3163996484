//! Tables for people: columns of equal width, as many beside each other as the terminal has room for.
//!
//! A table that is too wide is cut into bands, one under the other, each of which repeats the
//! columns that say which row it is. Where stdout is no terminal every row is one line.

use crate::output::{Output, Style};
use crate::text::{pad, pad_left};

const GAP: &str = "  ";

/// One column.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    head: &'static str,
    right: bool,
    key: bool,
}

impl Column {
    /// Words.
    pub const fn text(head: &'static str) -> Self {
        Self { head, right: false, key: false }
    }

    /// Numbers.
    pub const fn number(head: &'static str) -> Self {
        Self { head, right: true, key: false }
    }

    /// It says which row it is.
    #[must_use]
    pub const fn key(self) -> Self {
        Self { key: true, ..self }
    }
}

/// A table, filled row by row.
#[derive(Debug)]
pub struct Table {
    columns: Vec<Column>,
    rows: Vec<(Option<Style>, Vec<String>)>,
}

impl Table {
    /// Without rows yet. The key columns come first.
    pub fn new(columns: &[Column]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Adds a row with a cell for every column.
    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push((None, cells.into()));
    }

    /// Adds a row in a style.
    pub fn styled<const N: usize>(&mut self, style: Style, cells: [String; N]) {
        self.rows.push((Some(style), cells.into()));
    }

    /// Its lines.
    pub fn lines(&self, out: &Output) -> Vec<String> {
        let mut lines = Vec::new();
        for (n, band) in self.bands(out.width()).iter().enumerate() {
            if n > 0 {
                lines.push(String::new());
            }
            let heads: Vec<String> = self.columns.iter().map(|c| c.head.to_owned()).collect();
            lines.push(out.paint(Style::Dim, line(band, &heads)));
            for (style, cells) in &self.rows {
                // A row of sums says nothing where it has none.
                let mut others = band.iter().filter(|place| !self.is_key(place.at));
                let empty = |place: &Place| cells.get(place.at).is_none_or(String::is_empty);
                if style.is_some() && others.all(empty) {
                    continue;
                }
                let text = line(band, cells);
                lines.push(style.map_or_else(|| text.clone(), |style| out.paint(style, &text)));
            }
        }
        lines
    }

    fn is_key(&self, at: usize) -> bool {
        self.columns.get(at).is_some_and(|column| column.key)
    }

    /// The columns of each band: place, width, right-aligned.
    fn bands(&self, room: Option<usize>) -> Vec<Vec<Place>> {
        let width = |at: usize, column: &Column| {
            let cells = self.rows.iter().filter_map(|(_, cells)| cells.get(at));
            let cells = cells.map(|cell| cell.chars().count());
            cells.chain([column.head.chars().count()]).max().unwrap_or(0)
        };
        let places = self.columns.iter().enumerate();
        let places =
            places.map(|(at, c)| (c.key, Place { at, width: width(at, c), right: c.right }));
        let (keys, others): (Vec<_>, Vec<_>) = places.partition(|(key, _)| *key);
        let keys: Vec<Place> = keys.into_iter().map(|(_, place)| place).collect();
        let size = |band: &[Place]| {
            band.iter()
                .map(|place| place.width + GAP.len())
                .sum::<usize>()
                .saturating_sub(GAP.len())
        };
        let mut bands = vec![keys.clone()];
        for (_, place) in others {
            let Some(band) = bands.last_mut() else { break };
            let wider = size(band) + GAP.len() + place.width;
            if room.is_some_and(|room| wider > room) && band.len() > keys.len() {
                bands.push(keys.iter().copied().chain([place]).collect());
            } else {
                band.push(place);
            }
        }
        bands
    }
}

#[derive(Debug, Clone, Copy)]
struct Place {
    at: usize,
    width: usize,
    right: bool,
}

fn line(band: &[Place], cells: &[String]) -> String {
    let cell = |place: &Place| {
        let text = cells.get(place.at).map_or("", String::as_str);
        if place.right { pad_left(text, place.width) } else { pad(text, place.width) }
    };
    band.iter().map(cell).collect::<Vec<_>>().join(GAP).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(&[
            Column::number("UID").key(),
            Column::text("NAME"),
            Column::number("STAKE"),
        ]);
        table.row(["7".to_owned(), "abcdefgh".to_owned(), "1.5".to_owned()]);
        table.row(["12".to_owned(), "x".to_owned(), "10.0".to_owned()]);
        table
    }

    fn text(room: Option<usize>) -> Vec<String> {
        let table = table();
        let bands = table.bands(room);
        bands.iter().flat_map(|b| table.rows.iter().map(|(_, cells)| line(b, cells))).collect()
    }

    #[test]
    fn a_row_is_one_line_where_there_is_room() {
        let want = ["  7  abcdefgh    1.5", " 12  x          10.0"];
        assert_eq!(text(None), want);
        assert_eq!(text(Some(20)), want);
    }

    #[test]
    fn what_does_not_fit_comes_below_with_its_key() {
        assert_eq!(text(Some(19)), ["  7  abcdefgh", " 12  x", "  7    1.5", " 12   10.0"]);
        // A single column that is too wide stays whole.
        assert_eq!(text(Some(5)).len(), 4);
    }
}
