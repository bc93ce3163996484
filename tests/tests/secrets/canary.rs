//! Secrets made for one run, and the search for them in everything that a run said or wrote: as they
//! are, in hex, in base64, and in parts.

use std::collections::HashMap;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};

/// So many characters in a row of a secret text are a find.
const PART: usize = 8;
/// Of what is written in hex digits, and of encodings: 8 of 16 digits come up by chance in a log
/// full of hashes, 14 do not.
const CODED_PART: usize = 14;

/// Everything that must not be found.
#[derive(Default)]
pub(super) struct Canaries {
    /// By their first bytes: the parts, and whose they are.
    parts: HashMap<[u8; PART], Vec<(Vec<u8>, String)>>,
}

/// A text that stands nowhere else: letters and digits without a word in them.
pub(super) fn random() -> String {
    let mut bytes = [0_u8; 24];
    std::io::Read::read_exact(&mut std::fs::File::open("/dev/urandom").unwrap(), &mut bytes)
        .unwrap();
    let letter = |byte: &u8| char::from(b"bcdfghjkmnpqrstvwxz23456789"[usize::from(byte % 27)]);
    bytes.iter().map(letter).collect()
}

impl Canaries {
    /// A password or a key of ours, for the table of what is searched.
    pub(super) fn text(&mut self, name: &str, secret: &str) {
        self.windows(&format!("{name}, as it is"), secret.as_bytes(), PART);
        self.coded(name, secret.as_bytes());
    }

    /// Bytes, as they are written in key files.
    pub(super) fn bytes(&mut self, name: &str, secret: &[u8]) {
        self.windows(&format!("{name}, raw"), secret, PART);
        self.coded(name, secret);
    }

    /// A recovery phrase: its words are everybody's, three of them in a row are not.
    pub(super) fn phrase(&mut self, phrase: &str) {
        let words: Vec<&str> = phrase.split(' ').collect();
        for three in words.windows(3) {
            for glue in [" ", "\",\"", ", ", "\n"] {
                self.add("a recovery phrase", three.join(glue).as_bytes());
            }
        }
        self.coded("a recovery phrase", phrase.as_bytes());
    }

    fn coded(&mut self, name: &str, secret: &[u8]) {
        let hex = hex::encode(secret);
        self.windows(&format!("{name}, in hex"), hex.as_bytes(), CODED_PART);
        self.windows(&format!("{name}, in hex"), hex.to_uppercase().as_bytes(), CODED_PART);
        // Base64 looks different by where in a longer text the secret begins.
        for before in 0..3 {
            let mut longer = vec![0_u8; before];
            longer.extend_from_slice(secret);
            for engine in [STANDARD, URL_SAFE] {
                let coded = engine.encode(&longer);
                // Digits that also depend on the neighbours do not count.
                let sure = coded.trim_end_matches('=').as_bytes();
                let sure = &sure[if before == 0 { 0 } else { 4 }..sure.len() - 1];
                self.windows(&format!("{name}, in base64"), sure, CODED_PART);
            }
        }
    }

    fn windows(&mut self, name: &str, secret: &[u8], part: usize) {
        assert!(secret.len() >= part, "{name} is too short to be searched");
        for window in secret.windows(part) {
            self.add(name, window);
        }
    }

    fn add(&mut self, name: &str, part: &[u8]) {
        let first = part[..PART].try_into().unwrap();
        self.parts.entry(first).or_default().push((part.to_vec(), name.to_owned()));
    }

    /// What of it is in these bytes, with some text around it; each secret once.
    pub(super) fn find(&self, bytes: &[u8]) -> Vec<String> {
        let mut found: Vec<String> = Vec::new();
        for (at, first) in bytes.windows(PART).enumerate() {
            for (part, name) in self.parts.get(first).into_iter().flatten() {
                let known = found.iter().any(|known| known.starts_with(name.as_str()));
                if known || !bytes[at..].starts_with(part) {
                    continue;
                }
                let around = &bytes[at.saturating_sub(60)..(at + part.len() + 30).min(bytes.len())];
                found.push(format!("{name}: ..{}..", String::from_utf8_lossy(around)));
            }
        }
        found
    }

    /// What of it is in the files below a folder, but for those of which `exempt` knows the name.
    pub(super) fn find_in_files(&self, dir: &Path, exempt: &[&str]) -> Vec<String> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let meta = std::fs::symlink_metadata(&path).unwrap();
            if exempt.iter().any(|name| path.ends_with(name)) {
                continue;
            }
            if meta.is_dir() {
                found.extend(self.find_in_files(&path, exempt));
            }
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let text = if meta.is_file() { std::fs::read(&path).unwrap() } else { Vec::new() };
            for what in [self.find(name.as_bytes()), self.find(&text)].concat() {
                found.push(format!("{}: {what}", path.display()));
            }
        }
        found
    }
}

#[test]
fn every_form_of_a_secret_is_found_and_nothing_else_is() {
    let (password, phrase) =
        ("kq7rt2mzxw5vb9hd", "ladder orbit velvet copper engine tunnel ripple magnet");
    let seed: Vec<u8> = (0..32_u8).map(|n| n.wrapping_mul(151).wrapping_add(13)).collect();
    let mut canaries = Canaries::default();
    canaries.text("a password", password);
    canaries.bytes("a seed", &seed);
    canaries.phrase(phrase);
    let hex = hex::encode(&seed);
    for planted in [
        password.to_owned(),
        format!("the end of it: {}", &password[8..]),
        format!("password={}...", &password[..8]),
        hex::encode(password),
        hex.clone(),
        hex.to_uppercase(),
        hex[10..30].to_owned(),
        STANDARD.encode(password),
        STANDARD.encode(format!("user:{password}")),
        STANDARD.encode(format!("u:{password}@host")),
        URL_SAFE.encode(&seed),
        format!("words: {}", "velvet copper engine"),
        phrase.replace(' ', ", "),
    ] {
        assert!(!canaries.find(planted.as_bytes()).is_empty(), "{planted}");
    }
    assert!(!canaries.find(&[b"raw ", &seed[7..16]].concat()).is_empty());
    for innocent in ["", "password", &password[..7], "the engine tunnel", &hex[..12], "ladder"] {
        assert_eq!(canaries.find(innocent.as_bytes()), Vec::<String>::new(), "{innocent}");
    }
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("a")).unwrap();
    std::fs::write(dir.path().join("a/key"), password).unwrap();
    std::fs::write(dir.path().join(format!("a/{hex}")), "").unwrap();
    assert_eq!(canaries.find_in_files(dir.path(), &[]).len(), 2);
    assert_eq!(canaries.find_in_files(dir.path(), &["a/key"]).len(), 1);
}
