//! Writes a credential into a `multipart/form-data` body (RFC 7578): parts of its name are removed, and one is added. The
//! other parts stay as the agent sent them. A body that servers could divide differently is refused.

use aho_corasick::AhoCorasick;

use super::body::{BodyError, BodyPath, is_same};

/// RFC 2046 §5.1.1.
const BOUNDARY_BYTES_MAX: usize = 70;

/// The longest fields of a part: a disposition with a file's name has less than 1 KiB.
const PART_HEAD_BYTES_MAX: usize = 8 * 1024;

const NO_BOUNDARY: BodyError = BodyError::Malformed("multipart/form-data of no single boundary");
const NO_DELIMITER: BodyError =
    BodyError::Malformed("multipart/form-data with text where a delimiter belongs");
const NO_NAME: BodyError =
    BodyError::Malformed("multipart/form-data with a part whose name is not plain");

/// What divides the parts, with the two hyphens before it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Delimiter(Box<str>);

impl Delimiter {
    /// The delimiter that the parameters of a content type name.
    ///
    /// # Errors
    /// When they name none, several, or one with unusual characters.
    pub(super) fn of(content_type: &str) -> Result<Self, BodyError> {
        let named =
            |text: &'_ str| text.get(..8).is_some_and(|it| it.eq_ignore_ascii_case("boundary"));
        let mut found = content_type.split(';').skip(1).map(str::trim).filter(|it| named(it));
        let (Some(one), None) = (found.next(), found.next()) else { return Err(NO_BOUNDARY) };
        let value = one[8..].strip_prefix('=').ok_or(NO_BOUNDARY)?;
        let quoted = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        let value = quoted.unwrap_or(value);
        // RFC 2046 `bchars`, without those that lists and quotes end with.
        let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"'()+_-./:=?".contains(&b);
        match (1..=BOUNDARY_BYTES_MAX).contains(&value.len()) && value.bytes().all(is_plain) {
            true => Ok(Self(format!("--{value}").into())),
            false => Err(NO_BOUNDARY),
        }
    }

    /// The most bytes that the values add to a body.
    pub(super) fn room(&self, values: &[(&BodyPath, &str)]) -> usize {
        let part = |(path, value): &(&BodyPath, &str)| {
            self.0.len() + head(path).len() + value.len() + "\r\n".len()
        };
        values.iter().map(part).sum::<usize>() + self.0.len() + "--\r\n".len()
    }

    /// Writes the parts of `body` without those that `values` replace, then those.
    ///
    /// # Errors
    /// When servers could divide the body differently.
    pub(super) fn write(
        &self,
        body: &[u8],
        values: &[(&BodyPath, &str)],
        out: &mut Vec<u8>,
    ) -> Result<(), BodyError> {
        if values.iter().any(|(_, value)| value.contains(['\r', '\n'])) {
            return Err(BodyError::Malformed(
                "multipart/form-data, and the credential has several lines",
            ));
        }
        for part in self.parts(body)? {
            let name = name_of(part)?;
            if !values.iter().any(|(path, _)| is_same(&path.to_string(), &name)) {
                append(out, &[self.0.as_bytes(), b"\r\n", part, b"\r\n"]);
            }
        }
        for (path, value) in values {
            let head = head(path);
            append(out, &[self.0.as_bytes(), head.as_bytes(), value.as_bytes(), b"\r\n"]);
        }
        append(out, &[self.0.as_bytes(), b"--\r\n"]);
        Ok(())
    }

    /// The parts, with their fields. A body without any bytes has none.
    fn parts<'a>(&self, body: &'a [u8]) -> Result<Vec<&'a [u8]>, BodyError> {
        if body.is_empty() {
            return Ok(Vec::new());
        }
        let finder = AhoCorasick::new([self.0.as_bytes()]).map_err(|_| NO_BOUNDARY)?;
        let (mut parts, mut begin, mut is_over) = (Vec::new(), None, false);
        for found in finder.find_iter(body) {
            let is_line = found.start() == 0 || body[..found.start()].ends_with(b"\r\n");
            let after = &body[found.end()..];
            is_over = after == b"--" || after == b"--\r\n";
            if !is_line || !(is_over || after.starts_with(b"\r\n")) {
                return Err(NO_DELIMITER);
            }
            match begin {
                None if found.start() == 0 => {}
                None => return Err(NO_DELIMITER),
                // One line end belongs to the delimiter; two delimiters may not share it.
                Some(begin) => {
                    let end = found.start() - 2;
                    parts.push(body.get(begin..end).ok_or(NO_DELIMITER)?);
                }
            }
            begin = Some(found.end() + 2);
        }
        if is_over { Ok(parts) } else { Err(NO_DELIMITER) }
    }
}

/// Without a copy beside `out`, which is wiped.
fn append(out: &mut Vec<u8>, pieces: &[&[u8]]) {
    pieces.iter().for_each(|piece| out.extend_from_slice(piece));
}

/// What stands before the value of a new part.
fn head(path: &BodyPath) -> String {
    // As browsers encode names: HTML, "multipart/form-data encoding algorithm".
    let name = path.to_string().replace('"', "%22");
    format!("\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n")
}

/// The name of a part, of which its fields leave no doubt.
fn name_of(part: &[u8]) -> Result<String, BodyError> {
    let end = part.windows(4).take(PART_HEAD_BYTES_MAX).position(|four| four == b"\r\n\r\n");
    let head = std::str::from_utf8(&part[..end.ok_or(NO_NAME)?]).map_err(|_| NO_NAME)?;
    let mut name = None;
    for line in head.split("\r\n") {
        let (field, value) = line.split_once(':').ok_or(NO_NAME)?;
        if line.contains(['\r', '\n', '\0']) || field.is_empty() || field.contains([' ', '\t']) {
            return Err(NO_NAME);
        }
        if field.eq_ignore_ascii_case("content-disposition")
            && name.replace(disposed(value.trim())?).is_some()
        {
            return Err(NO_NAME);
        }
    }
    name.ok_or(NO_NAME)
}

/// The name in a disposition, such as `form-data; name="file"; filename="a.txt"`.
fn disposed(value: &str) -> Result<String, BodyError> {
    let kind = value.get(..9).filter(|kind| kind.eq_ignore_ascii_case("form-data"));
    let mut rest = kind.map(|_| value[9..].trim_start()).ok_or(NO_NAME)?;
    let mut name = None;
    while !rest.is_empty() {
        let parameter = rest.strip_prefix(';').ok_or(NO_NAME)?.trim_start();
        let (key, text) = parameter.split_once('=').ok_or(NO_NAME)?;
        let (value, after) = match text.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').ok_or(NO_NAME)?,
            None => text.split_at(text.find(';').unwrap_or(text.len())),
        };
        // Some end the text at an escaped quote, and some after it.
        if value.ends_with('\\') || key.eq_ignore_ascii_case("name*") {
            return Err(NO_NAME);
        }
        if key.eq_ignore_ascii_case("name") {
            let is_plain = !value.contains('\\') && (text.starts_with('"') || !value.contains(' '));
            if !is_plain || name.replace(value.to_owned()).is_some() {
                return Err(NO_NAME);
            }
        }
        rest = after.trim_start();
    }
    name.ok_or(NO_NAME)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TYPE: &str = "multipart/form-data; boundary=kwb";

    fn path(text: &str) -> BodyPath {
        BodyPath::parse(text).expect(text)
    }

    fn written(body: &[u8], at: &str) -> Result<Vec<u8>, BodyError> {
        let (delimiter, path) = (Delimiter::of(TYPE)?, path(at));
        let values = [(&path, "s3cret")];
        let mut out = Vec::new();
        delimiter.write(body, &values, &mut out)?;
        assert!(out.len() <= body.len() + delimiter.room(&values), "it fits the reserved room");
        Ok(out)
    }

    /// A body of these parts.
    fn body(parts: &[&str]) -> String {
        let parts: String = parts.iter().map(|part| format!("--kwb\r\n{part}\r\n")).collect();
        format!("{parts}--kwb--\r\n")
    }

    fn part(disposition: &str, value: &str) -> String {
        format!("Content-Disposition: form-data; {disposition}\r\n\r\n{value}")
    }

    #[test]
    fn a_content_type_without_a_plain_boundary_is_refused() {
        let long = format!("multipart/form-data; boundary={}", "a".repeat(71));
        for bad in [
            "multipart/form-data",
            "multipart/form-data; boundary=",
            "multipart/form-data; boundary=a; boundary=b",
            "multipart/form-data; boundary=a; Boundary*0=b",
            "multipart/form-data; boundary*=utf-8''a",
            "multipart/form-data; boundary=\"a b\"",
            "multipart/form-data; boundary=a,b",
            &long,
        ] {
            assert_eq!(Delimiter::of(bad), Err(NO_BOUNDARY), "{bad}");
        }
        for good in [
            "multipart/form-data; boundary=----WebKitFormBoundary7MA4YWxk",
            "multipart/form-data; charset=utf-8; BOUNDARY=\"a=_1/?\"",
        ] {
            assert!(Delimiter::of(good).is_ok(), "{good}");
        }
    }

    #[test]
    fn a_body_that_servers_divide_differently_is_refused() {
        let one = part("name=\"a\"", "1");
        for bad in [
            "a=1".to_owned(),
            format!("preamble\r\n{}", body(&[&one])),
            format!("{}epilogue", body(&[&one])),
            body(&[&one]).replace("--kwb--\r\n", ""),
            body(&[&one]).replace("--kwb--", "--kwb-"),
            body(&[&one]).replace("--kwb\r\n", "--kwb \r\n"),
            body(&[&one]).replace("--kwb\r\n", "--kwb\n"),
            body(&[&part("name=\"a\"", "1\n--kwb\r\nx")]),
            body(&[&part("name=\"a\"", "1 --kwb\r\nx")]),
            body(&[&part("name=\"a\"", "1\r\n--kwbx")]),
            "--kwb\r\n--kwb--\r\n".to_owned(),
        ] {
            assert_eq!(written(bad.as_bytes(), "key"), Err(NO_DELIMITER), "{bad:?}");
        }
    }

    #[test]
    fn a_part_whose_name_is_in_doubt_is_refused() {
        for bad in [
            "",
            "\r\n\r\nvalue",
            "Content-Type: text/plain\r\n\r\nvalue",
            "Content-Disposition: attachment; name=\"a\"\r\n\r\n",
            "Content-Disposition : form-data; name=\"a\"\r\n\r\n",
            "Content-Disposition: form-data;\r\n name=\"a\"\r\n\r\n",
            "Content-Disposition: form-data; name=\"a\"\nX: y\r\n\r\n",
            "Content-Disposition: form-data; name=\"a\"\r\nContent-Disposition: form-data; name=\"b\"\r\n\r\n",
            &part("filename=\"a\"", ""),
            &part("name=\"a\"; name=\"key\"", ""),
            &part("name=\"a\"; name*=utf-8''key", ""),
            &part("name=\"a\\\"; name=\\\"key\"", ""),
            &part("filename=\"a\\\"; name=\"key\"", ""),
            &part("name=\"a", ""),
            &part("name", ""),
        ] {
            assert_eq!(written(body(&[bad]).as_bytes(), "key"), Err(NO_NAME), "{bad:?}");
        }
        let latin = [
            b"--kwb\r\nContent-Disposition: form-data; name=\"",
            &[0xe9][..],
            b"\"\r\n\r\n\r\n--kwb--",
        ];
        assert_eq!(written(&latin.concat(), "key"), Err(NO_NAME));
    }

    #[test]
    fn whatever_could_be_read_as_the_credential_goes_and_all_else_stays() {
        let file = part("name=\"file\"; filename=\"C:\\a;b.bin\"", "\0\r\n\r\n-- \u{e9}\r\n--kw");
        let file = file.replacen("\r\n", "\r\nContent-Type: application/x\r\n", 1);
        let other = part("name=key2; x=1", "");
        let sent = [
            part("name=\"key\"", "kwph"),
            part("name=\"KEY\"; filename=\"k\"", "mine"),
            file.clone(),
            part("name=key", "mine"),
            other.clone(),
        ];
        let sent = sent.each_ref().map(String::as_str);
        let ours = part("name=\"key\"", "s3cret");
        let want = body(&[&file, &other, &ours]);
        assert_eq!(written(body(&sent).as_bytes(), "key"), Ok(want.into_bytes()));
        let alone = body(&[&ours]);
        for empty in ["", "--kwb--", "--kwb--\r\n"] {
            assert_eq!(
                written(empty.as_bytes(), "key").as_deref(),
                Ok(alone.as_bytes()),
                "{empty:?}"
            );
        }
        let quoted = written(b"", "a\"b").expect("a name");
        assert!(String::from_utf8(quoted).expect("text").contains("name=\"a%22b\""));
    }

    #[test]
    fn a_credential_of_several_lines_is_refused() {
        let (delimiter, path) = (Delimiter::of(TYPE).expect("a boundary"), path("key"));
        assert!(delimiter.write(b"", &[(&path, "a\r\n--kwb")], &mut Vec::new()).is_err());
    }
}
