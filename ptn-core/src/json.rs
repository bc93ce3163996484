//! JSON as the network sees it: key order and number tokens are kept exactly as they were written.
//!
//! The legacy body hash covers the text of the signal (see `transport::synapse`), so a value that
//! goes in as `0.10` must not come out as `0.1`. Global switches of `serde_json` that would do this
//! leak into the builds of our users; this small type does it for our own data only.
//!
//! Reading is as lenient as Python's `json` where users rely on it (byte order mark, `NaN`,
//! `Infinity`, repeated keys: the last value wins at the place of the first) and strict otherwise.
//! Depth and size are bounded. Judging the values is left to `signal::parse`.

#[cfg(any(feature = "fs", feature = "paper"))]
pub(crate) mod literal;

use std::fmt::{self, Write as _};

/// How deep arrays and objects may nest.
pub const MAX_DEPTH: usize = 64;

/// One JSON value. Numbers keep the token that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Json {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// The number's token as written; also `NaN`, `Infinity` and `-Infinity`, which Python writes.
    Number(String),
    /// A string, unescaped.
    String(String),
    /// An array.
    Array(Vec<Self>),
    /// An object in the order of its text.
    Object(Object),
}

/// The members of an object in the order in which they were written; keys are unique.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Object(Vec<(String, Json)>);

/// Why a text is not JSON that we accept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} at byte {at}")]
pub struct JsonError {
    /// What was wrong.
    pub what: &'static str,
    /// Byte offset in the text.
    pub at: usize,
}

impl Object {
    /// An empty object.
    pub fn new() -> Self {
        Self::default()
    }

    /// The value of `key`.
    pub fn get(&self, key: &str) -> Option<&Json> {
        self.0.iter().find(|(k, _)| k == key).map(|(_, v)| v)
    }

    /// Sets `key`; an existing key keeps its place.
    pub fn set(&mut self, key: impl Into<String>, value: Json) {
        let key = key.into();
        match self.0.iter_mut().find(|(k, _)| *k == key) {
            Some((_, v)) => *v = value,
            None => self.0.push((key, value)),
        }
    }

    /// Removes `key` and returns its value.
    pub fn remove(&mut self, key: &str) -> Option<Json> {
        let at = self.0.iter().position(|(k, _)| k == key)?;
        Some(self.0.remove(at).1)
    }

    /// Keeps the members that `wanted` says.
    #[cfg_attr(not(feature = "fs"), allow(dead_code, reason = "for files of others"))]
    pub(crate) fn retain(&mut self, mut wanted: impl FnMut(&str, &Json) -> bool) {
        self.0.retain(|(key, value)| wanted(key, value));
    }

    /// Adds the members of another object whose keys are not there yet, in time that grows with its
    /// length only.
    pub(crate) fn add_missing(&mut self, other: Self) {
        let known = self.0.len();
        for (key, value) in other.0 {
            if !self.0.iter().take(known).any(|(k, _)| *k == key) {
                self.0.push((key, value));
            }
        }
    }

    /// The members in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Json)> {
        self.0.iter().map(|(k, v)| (k.as_str(), v))
    }

    /// How many members there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no member.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// As [`Json`]'s `Display`, without wrapping it in one.
    pub(crate) fn compact(&self, out: &mut String) {
        out.push('{');
        for (i, (key, value)) in self.iter().enumerate() {
            if i > 0 {
                out.push(',');
            }
            quote(out, key, false);
            out.push(':');
            value.compact(out);
        }
        out.push('}');
    }
}

impl FromIterator<(String, Json)> for Object {
    fn from_iter<I: IntoIterator<Item = (String, Json)>>(iter: I) -> Self {
        let mut object = Self::new();
        for (key, value) in iter {
            object.set(key, value);
        }
        object
    }
}

impl From<&str> for Json {
    fn from(text: &str) -> Self {
        Self::String(text.to_owned())
    }
}

impl From<String> for Json {
    fn from(text: String) -> Self {
        Self::String(text)
    }
}

impl From<Object> for Json {
    fn from(object: Object) -> Self {
        Self::Object(object)
    }
}

impl From<bool> for Json {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<u64> for Json {
    fn from(value: u64) -> Self {
        Self::Number(value.to_string())
    }
}

impl Json {
    /// Reads one JSON text.
    ///
    /// # Errors
    /// Says what is wrong and at which byte; see the module for what is accepted.
    pub fn parse(bytes: &[u8]) -> Result<Self, JsonError> {
        Self::parse_as(bytes, false)
    }

    /// As [`Json::parse`], of a text in which no key stands twice: nobody is to read another value than
    /// we do.
    ///
    /// # Errors
    /// As [`Json::parse`], and for a key that stands twice in an object.
    pub fn parse_unique(bytes: &[u8]) -> Result<Self, JsonError> {
        Self::parse_as(bytes, true)
    }

    fn parse_as(bytes: &[u8], unique: bool) -> Result<Self, JsonError> {
        let skip = if bytes.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
        let body = bytes.get(skip..).unwrap_or_default();
        let text = std::str::from_utf8(body)
            .map_err(|e| JsonError { what: "not UTF-8", at: skip + e.valid_up_to() })?;
        let mut parser = Parser { bytes: text.as_bytes(), text, at: 0, unique };
        parser.blanks();
        let value = parser.value(0)?;
        parser.blanks();
        if parser.at < parser.bytes.len() {
            return Err(parser.error("text after the end of the value"));
        }
        Ok(value)
    }

    /// The object, if it is one.
    pub fn as_object(&self) -> Option<&Object> {
        match self {
            Self::Object(object) => Some(object),
            _ => None,
        }
    }

    /// The text, if it is a string.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// Python's word for this kind of value, as its error texts use it.
    pub fn python_type(&self) -> &'static str {
        match self {
            Self::Null => "NoneType",
            Self::Bool(_) => "bool",
            Self::Number(token) if token.contains(['.', 'e', 'E', 'N', 'I']) => "float",
            Self::Number(_) => "int",
            Self::String(_) => "str",
            Self::Array(_) => "list",
            Self::Object(_) => "dict",
        }
    }

    /// Python's `json.dumps(indent=4)`: what the Python tools write into the spool.
    pub fn to_python_indented(&self) -> String {
        let mut out = String::new();
        self.python_json(&mut out, Some(0));
        out
    }

    /// Python's `json.dumps()`: `", "` and `": "` between members, everything on one line.
    pub fn to_python_json(&self) -> String {
        let mut out = String::new();
        self.python_json(&mut out, None);
        out
    }

    fn python_json(&self, out: &mut String, indent: Option<usize>) {
        let line = |out: &mut String, depth: usize| {
            out.push('\n');
            out.extend(std::iter::repeat_n(' ', depth * 4));
        };
        let deeper = indent.map(|d| d + 1);
        match self {
            Self::Array(items) if !items.is_empty() => {
                out.push('[');
                for (i, item) in items.iter().enumerate() {
                    if i > 0 {
                        out.push_str(if indent.is_some() { "," } else { ", " });
                    }
                    if let Some(depth) = deeper {
                        line(out, depth);
                    }
                    item.python_json(out, deeper);
                }
                if let Some(depth) = indent {
                    line(out, depth);
                }
                out.push(']');
            }
            Self::Object(object) if !object.is_empty() => {
                out.push('{');
                for (i, (key, value)) in object.iter().enumerate() {
                    if i > 0 {
                        out.push_str(if indent.is_some() { "," } else { ", " });
                    }
                    if let Some(depth) = deeper {
                        line(out, depth);
                    }
                    quote(out, key, true);
                    out.push_str(": ");
                    value.python_json(out, deeper);
                }
                if let Some(depth) = indent {
                    line(out, depth);
                }
                out.push('}');
            }
            Self::String(text) => quote(out, text, true),
            other => other.compact(out),
        }
    }

    fn compact(&self, out: &mut String) {
        match self {
            Self::Null => out.push_str("null"),
            Self::Bool(true) => out.push_str("true"),
            Self::Bool(false) => out.push_str("false"),
            Self::Number(token) => out.push_str(token),
            Self::String(text) => quote(out, text, false),
            Self::Array(items) => {
                out.push('[');
                for (i, item) in items.iter().enumerate() {
                    if i > 0 {
                        out.push(',');
                    }
                    item.compact(out);
                }
                out.push(']');
            }
            Self::Object(object) => object.compact(out),
        }
    }
}

/// Compact JSON, the numbers as they were written.
impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = String::new();
        self.compact(&mut out);
        f.write_str(&out)
    }
}

/// A double as Python's `repr` writes it: the fewest digits that read back, of these the closest,
/// of two equally close ones the even one, and an exponent outside `1e-4` to `1e16`.
pub(crate) fn python_float(x: f64) -> String {
    if x.is_nan() {
        return "nan".to_owned();
    }
    if x.is_infinite() {
        return if x > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    let shortest = format!("{x:e}");
    let count =
        |text: &str| text.split('e').next().map_or(1, |m| m.matches(char::is_numeric).count());
    // Rust takes the larger of two equally close texts, but with a given number of digits the even
    // one.
    let closest = format!("{x:.*e}", count(&shortest).saturating_sub(1));
    let text = if closest.parse() == Ok(x) { closest } else { shortest };
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if !(-4..16).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{mantissa}e{sign}{:02}", exponent.unsigned_abs());
    }
    let mut out = String::with_capacity(24);
    if mantissa.starts_with('-') {
        out.push('-');
    }
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    let whole = usize::try_from(exponent + 1).unwrap_or(0);
    match (whole, digits.get(..whole), digits.get(whole..)) {
        (0, ..) => {
            out.push_str("0.");
            out.extend((exponent + 1..0).map(|_| '0'));
            out.push_str(&digits);
        }
        (_, Some(whole), Some(rest)) => {
            out.push_str(whole);
            out.push('.');
            out.push_str(if rest.is_empty() { "0" } else { rest });
        }
        _ => {
            out.push_str(&digits);
            out.extend((digits.len()..whole).map(|_| '0'));
            out.push_str(".0");
        }
    }
    out
}

pub(crate) fn quote(out: &mut String, text: &str, ascii: bool) {
    out.push('"');
    let plain = |b: u8| b >= 0x20 && b != b'"' && b != b'\\' && (b < 0x80 || !ascii);
    if text.bytes().all(plain) {
        // Nearly every text.
        out.push_str(text);
        out.push('"');
        return;
    }
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if u32::from(c) < 0x20 || (ascii && !c.is_ascii()) => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    // Writing to a String cannot fail.
                    write!(out, "\\u{unit:04x}").ok();
                }
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

struct Parser<'a> {
    bytes: &'a [u8],
    text: &'a str,
    at: usize,
    unique: bool,
}

impl Parser<'_> {
    fn error(&self, what: &'static str) -> JsonError {
        JsonError { what, at: self.at }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn word(&mut self, word: &str) -> bool {
        let found = self.bytes.get(self.at..).is_some_and(|rest| rest.starts_with(word.as_bytes()));
        if found {
            self.at += word.len();
        }
        found
    }

    fn value(&mut self, depth: usize) -> Result<Json, JsonError> {
        if depth > MAX_DEPTH {
            return Err(self.error("nested too deeply (64 levels are allowed)"));
        }
        match self.peek() {
            None => Err(self.error("the text ends before the value")),
            Some(b'{') => self.object(depth),
            Some(b'[') => self.array(depth),
            Some(b'"') => Ok(Json::String(self.string()?)),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(_) => {
                for (word, value) in [
                    ("null", Json::Null),
                    ("true", Json::Bool(true)),
                    ("false", Json::Bool(false)),
                    ("NaN", Json::Number("NaN".to_owned())),
                    ("Infinity", Json::Number("Infinity".to_owned())),
                ] {
                    if self.word(word) {
                        return Ok(value);
                    }
                }
                Err(self.error("no JSON value starts here"))
            }
        }
    }

    fn object(&mut self, depth: usize) -> Result<Json, JsonError> {
        self.at += 1;
        let mut members: Vec<(String, Json)> = Vec::new();
        // A linear look-up is fastest for the few members of a signal; an index keeps a hostile
        // object with many members from costing quadratic time.
        let mut index = std::collections::BTreeMap::new();
        self.blanks();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(Json::Object(Object::new()));
        }
        loop {
            self.blanks();
            if self.peek() != Some(b'"') {
                return Err(self.error("a key in double quotes is expected"));
            }
            let key = self.string()?;
            self.blanks();
            if self.peek() != Some(b':') {
                return Err(self.error("':' is expected after a key"));
            }
            self.at += 1;
            self.blanks();
            let value = self.value(depth + 1)?;
            match index.get(&key).and_then(|&at: &usize| members.get_mut(at)) {
                Some(_) if self.unique => return Err(self.error("a key stands twice")),
                Some((_, old)) => *old = value,
                None => {
                    index.insert(key.clone(), members.len());
                    members.push((key, value));
                }
            }
            self.blanks();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    return Ok(Json::Object(Object(members)));
                }
                _ => return Err(self.error("',' or '}' is expected after a member")),
            }
        }
    }

    fn array(&mut self, depth: usize) -> Result<Json, JsonError> {
        self.at += 1;
        let mut items = Vec::new();
        self.blanks();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(Json::Array(items));
        }
        loop {
            self.blanks();
            items.push(self.value(depth + 1)?);
            self.blanks();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => {
                    self.at += 1;
                    return Ok(Json::Array(items));
                }
                _ => return Err(self.error("',' or ']' is expected after an item")),
            }
        }
    }

    fn number(&mut self) -> Result<Json, JsonError> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
            if self.word("Infinity") {
                return Ok(Json::Number("-Infinity".to_owned()));
            }
        }
        match self.peek() {
            Some(b'0') => self.at += 1,
            Some(b'1'..=b'9') => self.digits(),
            _ => return Err(self.error("a digit is expected")),
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            if !matches!(self.peek(), Some(b'0'..=b'9')) {
                return Err(self.error("a digit is expected after the decimal point"));
            }
            self.digits();
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            if !matches!(self.peek(), Some(b'0'..=b'9')) {
                return Err(self.error("a digit is expected in the exponent"));
            }
            self.digits();
        }
        Ok(Json::Number(self.text.get(start..self.at).unwrap_or_default().to_owned()))
    }

    fn digits(&mut self) {
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
    }

    fn string(&mut self) -> Result<String, JsonError> {
        self.at += 1;
        let mut out = String::new();
        loop {
            let start = self.at;
            while !matches!(self.peek(), None | Some(b'"' | b'\\' | 0..=0x1f)) {
                self.at += 1;
            }
            out.push_str(self.text.get(start..self.at).unwrap_or_default());
            match self.peek() {
                None => return Err(self.error("the text ends inside a string")),
                Some(b'"') => {
                    self.at += 1;
                    return Ok(out);
                }
                Some(b'\\') => {
                    self.at += 1;
                    out.push(self.escape()?);
                }
                Some(_) => return Err(self.error("a control character must be escaped")),
            }
        }
    }

    fn escape(&mut self) -> Result<char, JsonError> {
        let c = self.peek().ok_or_else(|| self.error("the text ends inside a string"))?;
        self.at += 1;
        Ok(match c {
            b'"' => '"',
            b'\\' => '\\',
            b'/' => '/',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let first = self.unit()?;
                let mut units = vec![first];
                if (0xd800..0xdc00).contains(&first) && self.word("\\u") {
                    units.push(self.unit()?);
                }
                match char::decode_utf16(units).next() {
                    Some(Ok(c)) => c,
                    _ => return Err(self.error("half of a surrogate pair is no character")),
                }
            }
            _ => return Err(self.error("no such escape")),
        })
    }

    fn unit(&mut self) -> Result<u16, JsonError> {
        let hex = self
            .text
            .get(self.at..self.at + 4)
            .filter(|h| h.bytes().all(|b| b.is_ascii_hexdigit()))
            .ok_or_else(|| self.error("four hex digits are expected after \\u"))?;
        let unit = u16::from_str_radix(hex, 16).map_err(|_| self.error("bad \\u escape"))?;
        self.at += 4;
        Ok(unit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(input: &str, compact: &str) {
        assert_eq!(Json::parse(input.as_bytes()).unwrap().to_string(), compact);
    }

    #[test]
    fn order_and_tokens_survive() {
        check(r#"{"b": 1.0, "a": 0.10, "c": 1E-07}"#, r#"{"b":1.0,"a":0.10,"c":1E-07}"#);
        check(r#"{"a":1,"b":2,"a":3}"#, r#"{"a":3,"b":2}"#);
        check(
            "\u{feff}[NaN, -Infinity, \"\\ud83d\\ude80\\u0007\"]",
            "[NaN,-Infinity,\"🚀\\u0007\"]",
        );
    }

    #[test]
    fn python_texts_are_as_python_writes_them() {
        let json = Json::parse(r#"{"a":{"b":[1,"é"]},"c":{},"d":[]}"#.as_bytes()).unwrap();
        assert_eq!(json.to_python_json(), r#"{"a": {"b": [1, "\u00e9"]}, "c": {}, "d": []}"#);
        assert_eq!(
            json.to_python_indented(),
            "{\n    \"a\": {\n        \"b\": [\n            1,\n            \"\\u00e9\"\n        ]\n    },\n    \"c\": {},\n    \"d\": []\n}"
        );
    }

    #[test]
    fn doubles_are_as_python_writes_them() {
        for (x, text) in [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.0, "1.0"),
            (-120.0, "-120.0"),
            (0.25, "0.25"),
            (0.0001, "0.0001"),
            (0.00012345, "0.00012345"),
            (0.00001, "1e-05"),
            (1e15, "1000000000000000.0"),
            (9_999_999_999_999_998.0, "9999999999999998.0"),
            (1e16, "1e+16"),
            (1e22, "1e+22"),
            (1e23, "1e+23"),
            (1.5e300, "1.5e+300"),
            (5e-324, "5e-324"),
            (f64::MAX, "1.7976931348623157e+308"),
            (f64::MIN_POSITIVE, "2.2250738585072014e-308"),
            // ...293.25, ...708.25 and ...729.75: halfway between two texts of the same length.
            (968_092_563_802_293.2, "968092563802293.2"),
            (-868_054_449_704_708.2, "-868054449704708.2"),
            (703_224_052_820_729.8, "703224052820729.8"),
            (f64::NAN, "nan"),
            (f64::NEG_INFINITY, "-inf"),
        ] {
            assert_eq!(python_float(x), text);
        }
    }

    #[test]
    fn what_is_not_json_is_refused_with_its_place() {
        for (input, at) in [
            ("", 0),
            ("{'a':1}", 1),
            ("{\"a\":1,}", 7),
            ("01", 1),
            ("1.", 2),
            ("\"\\ud83d\"", 7),
            ("[1] 2", 4),
            ("\"a\nb\"", 2),
        ] {
            assert_eq!(Json::parse(input.as_bytes()).unwrap_err().at, at, "{input:?}");
        }
        assert!(Json::parse("[".repeat(100_000).as_bytes()).is_err());
    }
}
