//! Texts in which people and Python tools put a signal: JSON, JSON within a JSON string, or the
//! `repr()` of a Python dict.
//!
//! JSON is read as JSON; only what is not JSON is tried as Python. The network's own reader replaces
//! every quote blindly and so breaks values that hold one.

use crate::json::{Json, JsonError, MAX_DEPTH, Object};

/// Reads the object in a spool file.
///
/// # Errors
/// What is wrong and where; at the end of the text, more of it may be coming.
pub(crate) fn read_object(bytes: &[u8]) -> Result<Object, JsonError> {
    read(bytes, 0)
}

fn read(bytes: &[u8], depth: usize) -> Result<Object, JsonError> {
    let json = match Json::parse(bytes) {
        Ok(json) => json,
        Err(json_error) => {
            let text = std::str::from_utf8(bytes).map_err(|_| json_error.clone())?;
            match text.trim_start_matches('\u{feff}').trim_start().as_bytes() {
                [b'{', ..] => {
                    let mut parser = Python { text, at: 0 };
                    parser
                        .document()
                        .map_err(|e| if e.at > json_error.at { e } else { json_error })?
                }
                // A dict in quotes, as a shell leaves it behind.
                [b'\'', ..] => Json::String(Python { text, at: 0 }.quoted_document()?),
                _ => return Err(json_error),
            }
        }
    };
    match json {
        Json::Object(object) => Ok(object),
        Json::String(inner) if depth < 3 => read(inner.as_bytes(), depth + 1).map_err(|e| {
            JsonError { what: e.what, at: if e.at >= inner.len() { 0 } else { e.at } }
        }),
        _ => Err(JsonError { what: "one object is expected", at: 0 }),
    }
}

/// A reader of Python literals.
struct Python<'a> {
    text: &'a str,
    at: usize,
}

impl Python<'_> {
    fn error(&self, what: &'static str) -> JsonError {
        JsonError { what, at: self.at }
    }

    fn rest(&self) -> &str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        Some(c)
    }

    fn blanks(&mut self) {
        while self.peek().is_some_and(|c| c.is_whitespace() || c == '\u{feff}') {
            self.next();
        }
    }

    fn document(&mut self) -> Result<Json, JsonError> {
        self.blanks();
        let value = self.value(0)?;
        self.end()?;
        Ok(value)
    }

    fn quoted_document(&mut self) -> Result<String, JsonError> {
        self.blanks();
        let text = self.string()?;
        self.end()?;
        Ok(text)
    }

    fn end(&mut self) -> Result<(), JsonError> {
        self.blanks();
        if self.rest().is_empty() { Ok(()) } else { Err(self.error("text after the end")) }
    }

    fn value(&mut self, depth: usize) -> Result<Json, JsonError> {
        if depth > MAX_DEPTH {
            return Err(self.error("nested too deeply"));
        }
        match self.peek() {
            None => Err(self.error("the text ends before the value")),
            Some('{') => self.dict(depth),
            Some('[') => self.list(depth, ']'),
            Some('(') => self.list(depth, ')'),
            Some('\'' | '"') => Ok(Json::String(self.string()?)),
            Some(_) => self.word(),
        }
    }

    fn dict(&mut self, depth: usize) -> Result<Json, JsonError> {
        self.next();
        let mut object = Object::new();
        loop {
            self.blanks();
            match self.peek() {
                Some('}') => {
                    self.next();
                    return Ok(Json::Object(object));
                }
                Some('\'' | '"') => {}
                None => return Err(self.error("the text ends inside a dict")),
                Some(_) => return Err(self.error("a key in quotes is expected")),
            }
            if object.len() > 1000 {
                return Err(self.error("more than 1000 keys"));
            }
            let key = self.string()?;
            self.blanks();
            if self.next() != Some(':') {
                return Err(self.error("':' is expected after a key"));
            }
            self.blanks();
            let value = self.value(depth + 1)?;
            object.set(key, value);
            self.comma('}')?;
        }
    }

    fn list(&mut self, depth: usize, close: char) -> Result<Json, JsonError> {
        self.next();
        let mut items = Vec::new();
        loop {
            self.blanks();
            if self.peek() == Some(close) {
                self.next();
                return Ok(Json::Array(items));
            }
            items.push(self.value(depth + 1)?);
            self.comma(close)?;
        }
    }

    fn comma(&mut self, close: char) -> Result<(), JsonError> {
        self.blanks();
        match self.peek() {
            Some(',') => {
                self.next();
                Ok(())
            }
            Some(c) if c == close => Ok(()),
            None => Err(self.error("the text ends inside a dict or list")),
            Some(_) => Err(self.error("',' is expected")),
        }
    }

    fn word(&mut self) -> Result<Json, JsonError> {
        let word: String = self
            .rest()
            .chars()
            .take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.' | '_'))
            .collect();
        let value = match word.as_str() {
            "None" | "null" => Json::Null,
            "True" | "true" => Json::Bool(true),
            "False" | "false" => Json::Bool(false),
            "nan" => Json::Number("NaN".to_owned()),
            "inf" => Json::Number("Infinity".to_owned()),
            "-inf" => Json::Number("-Infinity".to_owned()),
            number => match Json::parse(number.as_bytes()) {
                Ok(number @ Json::Number(_)) => number,
                _ => return Err(self.error("no Python value starts here")),
            },
        };
        self.at += word.len();
        Ok(value)
    }

    fn string(&mut self) -> Result<String, JsonError> {
        let quote = self.next();
        let mut out = String::new();
        loop {
            match self.next() {
                None => return Err(self.error("the text ends inside a string")),
                c if c == quote => return Ok(out),
                Some('\\') => out.push(self.escape()?),
                Some(c) => out.push(c),
            }
        }
    }

    fn escape(&mut self) -> Result<char, JsonError> {
        let hex = |parser: &mut Self, digits: usize| {
            let text = parser.rest().get(..digits).unwrap_or_default().to_owned();
            parser.at += text.len();
            u32::from_str_radix(&text, 16)
                .ok()
                .and_then(char::from_u32)
                .ok_or_else(|| parser.error("no such escape"))
        };
        match self.next() {
            Some('n') => Ok('\n'),
            Some('r') => Ok('\r'),
            Some('t') => Ok('\t'),
            Some('x') => hex(self, 2),
            Some('u') => hex(self, 4),
            Some('U') => hex(self, 8),
            Some(c @ ('\\' | '\'' | '"')) => Ok(c),
            None => Err(self.error("the text ends inside a string")),
            Some(_) => Err(self.error("no such escape")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let object = read_object(text.as_bytes()).unwrap();
        assert_eq!(Json::Object(object).to_string(), expected, "{text}");
    }

    #[test]
    fn json_json_in_json_and_python_dicts_are_read() {
        check(r#"{"a": 1.0}"#, r#"{"a":1.0}"#);
        check(r#""{\"a\": \"it's\"}""#, r#"{"a":"it's"}"#);
        check(
            "{'a': 'say \"x\"', 'b': None, 'c': True, 'd': (1, -2.5e-05),}",
            r#"{"a":"say \"x\"","b":null,"c":true,"d":[1,-2.5e-05]}"#,
        );
        check(r#""{'a': 1}""#, r#"{"a":1}"#);
        check(r#"{'a': "it's", 'b': 'it\'s \u00e9'}"#, r#"{"a":"it's","b":"it's é"}"#);
        check("'{\"a\": 1}'", r#"{"a":1}"#);
    }

    #[test]
    fn a_text_that_may_go_on_fails_at_its_end() {
        for text in ["", "{", "{\"a\"", "{\"a\": \"b", "{'a': ", "{'a': 1, ", "{'a': 'b", "\"{"] {
            let error = read_object(text.as_bytes()).unwrap_err();
            assert_eq!(error.at, text.len(), "{text:?} {error}");
        }
    }

    #[test]
    fn what_is_nothing_of_these_is_refused() {
        for text in ["[1]", "1", "{1: 2}", "{'a': b}", "{'a' 1}", "{a: 1}", "{'a': 1} x", "\"x\""] {
            let error = read_object(text.as_bytes()).unwrap_err();
            assert!(error.at < text.len(), "{text:?} {error}");
        }
    }
}
