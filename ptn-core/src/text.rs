//! Words of others (validators, files, nodes), made safe for a line of a log or a terminal.
//!
//! What they say is kept, so that it can be told; what a terminal would obey is written out. Who cuts
//! where is left to the callers.

/// The text with everything written out that is obeyed instead of shown (control characters, line
/// ends, changes of direction), at most `max` bytes.
pub(crate) fn printable(text: &str, max: usize) -> String {
    let mut out = String::new();
    for c in text.chars() {
        let start = out.len();
        if is_obeyed(c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
        if out.len() > max {
            out.truncate(start);
            break;
        }
    }
    out
}

/// Whether a terminal obeys it instead of showing it, or a log takes it for the end of a line.
pub(crate) fn is_obeyed(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{61c}'
                | '\u{200e}' | '\u{200f}'
                | '\u{2028}' | '\u{2029}'
                | '\u{202a}'..='\u{202e}'
                | '\u{2066}'..='\u{2069}'
        )
}

/// How many letters differ: added, left out, another one, or two neighbours in the wrong order.
pub(crate) fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let at = |row: &[usize], j: usize| row.get(j).copied().unwrap_or(usize::MAX);
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, cb) in b.iter().enumerate() {
            let other = at(&last, j).saturating_add(usize::from(ca != cb));
            let without = at(&last, j + 1).min(at(&row, j)).saturating_add(1);
            let mut best = other.min(without);
            let swapped = i > 0 && j > 0 && a.get(i - 1) == Some(cb) && b.get(j - 1) == Some(ca);
            if swapped {
                best = best.min(at(&before, j - 1).saturating_add(1));
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    at(&last, b.len())
}

#[cfg(test)]
mod tests {
    use super::{distance, printable};

    #[test]
    fn a_distance_counts_single_slips() {
        for (a, b, far) in [
            ("BTCUSDC", "BTCUSDC", 0),
            ("BTCUSCD", "BTCUSDC", 1),
            ("BTCUSD", "BTCUSDC", 1),
            ("ETHUSDC", "ETCUSDC", 1),
            ("", "abc", 3),
            ("delivery.polcy", "delivery.policy", 1),
        ] {
            assert_eq!((distance(a, b), distance(b, a)), (far, far), "{a} {b}");
        }
    }

    #[test]
    fn what_a_terminal_obeys_is_written_out_and_the_rest_kept() {
        for (text, shown) in [
            ("plain é 🚀 日本", "plain é 🚀 日本"),
            ("a\r\n\u{1b}[31mb\u{7}", "a\\r\\n\\u{1b}[31mb\\u{7}"),
            ("\u{9b}31m", "\\u{9b}31m"),
            ("\u{202e}x\u{2067}y\u{200f}", "\\u{202e}x\\u{2067}y\\u{200f}"),
        ] {
            assert_eq!(printable(text, 100), shown);
        }
    }

    #[test]
    fn nothing_is_cut_within_a_character_or_an_escape() {
        assert_eq!(printable("éé", 3), "é");
        assert_eq!(printable("a\u{1b}", 5), "a");
        assert_eq!(printable("", 0), "");
    }
}
