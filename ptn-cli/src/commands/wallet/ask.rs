//! What a person is asked: yes or no, and the proof that a recovery phrase was written down.

use ptn_core::ops::terminal::Terminal;
use ptn_core::wallet::Key;

use crate::failure::Failure;
use crate::output::{Output, Style};

/// How many words are asked for.
const ASKED: usize = 2;
/// How often a word may be wrong.
const TRIES: usize = 3;

/// Goes on only after a yes.
pub(crate) fn confirm(question: &str) -> Result<(), Failure> {
    let Some(terminal) = Terminal::open() else {
        return Err(Failure::usage(format!("{question} There is no terminal to ask on"))
            .hint("add --yes when it is meant"));
    };
    match terminal.confirm(question) {
        Ok(true) => Ok(()),
        Ok(false) => Err(Failure::failed("declined", "not done, as you said")),
        Err(e) => Err(unanswered(&e)),
    }
}

pub(super) fn unanswered(error: &std::io::Error) -> Failure {
    Failure::failed("unanswered", format!("a question was not answered: {error}"))
}

/// Shows the phrase of a new key once, and asks for two of its words. Without a terminal nothing is
/// shown. `whose` is what the note is to be named by: `coldkey of wallet miner`; `export` the command
/// that shows it later.
pub(super) fn show_once(
    key: &Key,
    whose: &str,
    export: &str,
    check: bool,
    out: &mut Output,
) -> Result<(), Failure> {
    let Some(phrase) = key.phrase() else { return Ok(()) };
    let Some(terminal) = Terminal::open() else {
        out.talk(format!(
            "the recovery phrase is not shown without a terminal; it is in the key file: {export}"
        ));
        return Ok(());
    };
    let words: Vec<&str> = phrase.split(' ').collect();
    let head = format!(
        "Write this recovery phrase down, on paper, and whose it is: {whose}. Whoever has it has the \
         key; without it a lost file is lost for good. It is shown once:"
    );
    out.talk(out.flow_talk(&head, 0));
    out.talk("");
    for (row, part) in words.chunks(6).enumerate() {
        let numbered = part.iter().enumerate().map(|(i, word)| {
            let number = out.paint_talk(Style::Dim, format!("{:>4}.", row * 6 + i + 1));
            format!("{number} {}", out.paint_talk(Style::Strong, format!("{word:<8}")))
        });
        out.talk(numbered.collect::<String>().trim_end());
    }
    out.talk("");
    if !check {
        return Ok(());
    }
    let mut wrong = 0;
    for position in positions(words.len())? {
        loop {
            let asked = terminal.ask(&format!("Word {position} of it: "));
            let asked = asked.map_err(|e| unanswered(&e))?;
            if words.get(position - 1).is_some_and(|word| *word == asked.trim().to_lowercase()) {
                break;
            }
            wrong += 1;
            if wrong == TRIES {
                let text = "the words do not fit the phrase, and nothing was written";
                return Err(Failure::failed("phrase_not_kept", text)
                    .hint("start again: a new phrase will be made"));
            }
            out.talk(format!("that is not word {position}; look at your note"));
        }
    }
    Ok(())
}

/// Different places in the phrase, from 1, in order.
fn positions(count: usize) -> Result<Vec<usize>, Failure> {
    let mut random = [0; 64];
    getrandom::fill(&mut random)
        .map_err(|e| Failure::failed("random", format!("no random numbers: {e}")))?;
    let mut chosen: Vec<usize> = Vec::new();
    // Which words are asked for need not be perfectly even.
    for position in random.iter().map(|b| usize::from(*b) % count.max(1) + 1).chain(1..=count) {
        if chosen.len() < ASKED && !chosen.contains(&position) {
            chosen.push(position);
        }
    }
    chosen.sort_unstable();
    Ok(chosen)
}

/// A warning about a secret on the command line.
pub(super) fn warn_of_argument(flag: &str, instead: &str, out: &mut Output) {
    let head = out.paint_talk(Style::Warn, "careful:");
    let text = format!(
        "{flag} on the command line stays in the shell's history and is seen by everybody on this \
         machine while it runs; {instead}"
    );
    out.talk(format!("{head} {}", out.flow_talk(&text, 9)));
}
