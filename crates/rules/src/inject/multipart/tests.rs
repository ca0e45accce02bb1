//! Tests of the rewriter with bodies that servers could divide differently, and in comparison with [`reference()`], which
//! reads a body whole.

use proptest::prelude::*;

use super::super::body::{BodyPath, is_same};
use super::rewriter::{HEAD_BYTES_MAX, NO_NAME, name_of};
use super::*;

const TYPE: &str = "multipart/form-data; boundary=kwb";
const NO_DELIMITER: BodyError =
    BodyError::Malformed("multipart/form-data with text where a delimiter belongs");

fn path(text: &str) -> BodyPath {
    BodyPath::parse(text).expect(text)
}

/// The body that the pieces become, with `s3cret` at `at`.
fn rewritten<'a>(
    pieces: impl IntoIterator<Item = &'a [u8]>,
    at: &str,
) -> Result<Vec<u8>, BodyError> {
    let path = path(at);
    let mut rewriter = Delimiter::of(TYPE)?.rewriter(&[(&path, "s3cret")])?;
    let mut out = Vec::new();
    for piece in pieces {
        let most = out.len() + piece.len() + rewriter.room();
        rewriter.push(piece, &mut out)?;
        assert!(out.len() <= most, "it fits the reserved room");
        assert!(!out.windows(7).any(|it| it == b"--kwb--"), "it is complete before its end");
    }
    let most = out.len() + rewriter.room();
    rewriter.end(&mut out)?;
    assert!(out.len() <= most, "it fits the reserved room");
    Ok(out)
}

fn written(body: &[u8], at: &str) -> Result<Vec<u8>, BodyError> {
    rewritten([body], at)
}

/// The same by other means: finds all delimiters of a whole body first. `None` when it is refused.
fn reference(body: &[u8], at: &str) -> Option<Vec<u8>> {
    const DELIMITER: &[u8] = b"--kwb";
    let ours = part(&format!("name=\"{at}\""), "s3cret");
    let ours = [DELIMITER, b"\r\n", ours.as_bytes(), b"\r\n"].concat();
    if body.is_empty() {
        return Some([&*ours, b"--kwb--\r\n"].concat());
    }
    let finder = aho_corasick::AhoCorasick::new([DELIMITER]).expect("a pattern");
    let (mut parts, mut begin, mut close) = (Vec::new(), None, None);
    for found in finder.find_iter(body) {
        let is_line = found.start() == 0 || body[..found.start()].ends_with(b"\r\n");
        let after = &body[found.end()..];
        let is_last = after == b"--" || after == b"--\r\n";
        close = is_last.then(|| &body[found.start()..]);
        if !is_line || !(is_last || after.starts_with(b"\r\n")) {
            return None;
        }
        match begin {
            None if found.start() == 0 => {}
            None => return None,
            Some(begin) => parts.push(body.get(begin..found.start() - 2)?),
        }
        begin = Some(found.end() + 2);
    }
    let (mut out, mut is_written) = (Vec::new(), false);
    for part in parts {
        let end = part.windows(4).take(HEAD_BYTES_MAX).position(|four| four == b"\r\n\r\n");
        let name = name_of(&part[..end?]).ok()?;
        if !is_same(&name, at) {
            out.extend([DELIMITER, b"\r\n", part, b"\r\n"].concat());
        } else if !std::mem::replace(&mut is_written, true) {
            out.extend(&ours);
        }
    }
    out.extend(if is_written { &[][..] } else { &*ours });
    out.extend(close?);
    Some(out)
}

fn body(parts: &[&str]) -> String {
    let parts: String = parts.iter().map(|part| format!("--kwb\r\n{part}\r\n")).collect();
    format!("{parts}--kwb--\r\n")
}

fn part(disposition: &str, value: &str) -> String {
    format!("Content-Disposition: form-data; {disposition}\r\n\r\n{value}")
}

/// Valid bodies, and bodies that are invalid in different places.
fn samples() -> Vec<String> {
    let (a, key) = (part("name=\"a\"", "1"), part("name=\"key\"", "kwph"));
    let file = part("name=\"f\"; filename=\"a;b\"", "\r\n--kw\r\n--kwB\r\n\r\n--\r\n-\r");
    let other_case = part("name=KEY; filename=k", "mine\r\n--kw");
    let empty = part("name=\"a\"", "");
    let fields = format!("Content-Type: text/plain\r\n{a}");
    let mut bodies = vec![
        String::new(),
        "--kwb--".to_owned(),
        body(&[]),
        body(&[&a]),
        body(&[&key]),
        body(&[&empty, &empty]),
        body(&[&a, &key, &file, &other_case, &key, &fields]),
        body(&[&file, &a, &other_case]),
        body(&[&file, &fields]).trim_end().to_owned(),
    ];
    let sound = body(&[&file, &key, &a]);
    for (from, to) in [
        ("--kwb--\r\n", ""),
        ("--kwb--\r\n", "--kwb--\r"),
        ("--kwb--\r\n", "--kwb--\n"),
        ("--kwb--\r\n", "--kwb--\r\n\r\n"),
        ("--kwb--\r\n", "--kwb--\r\n--kwb--\r\n"),
        ("--kwb--\r\n", "--kwb-\r\n"),
        ("\r\n--kwb--\r\n", "\n--kwb--\r\n"),
        ("\r\n--kwb--\r\n", "--kwb--\r\n"),
        ("--kwb\r\n", "\r\n--kwb\r\n"),
        ("--kwb\r\n", "--kwb \r\n"),
        ("--kwb\r\n", "--kwb\n"),
        ("kwph", "--kwb"),
        ("kwph", "\r\n--kwbx"),
        ("kwph", "\n--kwb\r\n"),
        ("name=\"key\"", "name=\"--kwb\""),
        ("name=\"key\"", "name=\"k\\\"ey\""),
        ("name=\"key\"", "name=\"key\"; name*=utf-8''key"),
        ("name=\"key\"\r\n\r\n", "name=\"key\"\r\n"),
    ] {
        assert!(sound.contains(from), "{from:?}");
        bodies.push(sound.replace(from, to));
    }
    bodies
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
        body(&[""]),
    ] {
        assert_eq!(written(bad.as_bytes(), "key"), Err(NO_DELIMITER), "{bad:?}");
    }
}

#[test]
fn a_part_with_an_ambiguous_or_missing_name_is_refused() {
    for bad in [
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
fn parts_that_may_be_read_as_the_credential_are_replaced_and_others_stay() {
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
    let want = body(&[&ours, &file, &other]);
    assert_eq!(written(body(&sent).as_bytes(), "key"), Ok(want.into_bytes()));
    let alone = body(&[&ours]);
    for (empty, want) in [("", &*alone), ("--kwb--", alone.trim_end()), ("--kwb--\r\n", &*alone)] {
        assert_eq!(written(empty.as_bytes(), "key").as_deref(), Ok(want.as_bytes()), "{empty:?}");
    }
    let quoted = written(b"", "a\"b").expect("a name");
    assert!(String::from_utf8(quoted).expect("text").contains("name=\"a%22b\""));
}

#[test]
fn a_credential_of_several_lines_is_refused() {
    let (delimiter, path) = (Delimiter::of(TYPE).expect("a boundary"), path("key"));
    assert!(delimiter.rewriter(&[(&path, "a\r\n--kwb")]).is_err());
}

#[test]
fn a_body_in_pieces_is_rewritten_like_the_whole_body() {
    let (mut sound, mut refused) = (0, 0);
    for text in samples() {
        let body = text.as_bytes();
        let want = reference(body, "key");
        *if want.is_some() { &mut sound } else { &mut refused } += 1;
        for at in 0..=body.len() {
            let (one, two) = body.split_at(at);
            assert_eq!(rewritten([one, two], "key").ok(), want, "{text:?} in two at {at}");
        }
        for size in 1..=9 {
            let pieces = rewritten(body.chunks(size), "key").ok();
            assert_eq!(pieces, want, "{text:?} in pieces of {size}");
        }
    }
    assert_eq!((sound, refused), (9, 18));
}

proptest! {
    /// The fragments form valid and almost valid bodies.
    #[test]
    fn a_generated_body_in_pieces_is_rewritten_like_the_whole_body(
        fragments in proptest::collection::vec(0..14_usize, 0..24),
        sizes in proptest::collection::vec(1..40_usize, 1..8),
    ) {
        let (a, key) = (part("name=\"a\"", "x"), part("name=\"Key\"", ""));
        let (first, next) = (format!("--kwb\r\n{a}"), format!("\r\n--kwb\r\n{key}"));
        let texts = [
            &*first, &next, "\r\n--kwb\r\n", &a, "\r\n--kwb--\r\n", "\r\n--kwb--", "\r\n", "\r", "\n",
            "-", "--kwb", "--kw", "\r\n\r\n", "x",
        ];
        let text: String = fragments.iter().map(|at| texts[*at]).collect();
        for text in [text.clone(), format!("{first}{text}\r\n--kwb--\r\n")] {
            let (mut pieces, mut rest) = (Vec::new(), text.as_bytes());
            for size in sizes.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (piece, more) = rest.split_at((*size).min(rest.len()));
                pieces.push(piece);
                rest = more;
            }
            let want = reference(text.as_bytes(), "key");
            prop_assert_eq!(rewritten(pieces, "key").ok(), want, "{:?}", text);
        }
    }
}

#[test]
fn the_rewriter_holds_a_bounded_number_of_bytes() {
    let path = path("key");
    let long_head = format!("--kwb\r\nX: {}", "y".repeat(100_000));
    let value = body(&[&part("name=\"a\"", &"\r\n--kw".repeat(50_000))]);
    let dropped = body(&[&part("name=\"key\"", &"\r\n--kw".repeat(50_000))]);
    for (text, is_sound) in [(long_head, false), (value, true), (dropped, true)] {
        let values = [(&path, "s3cret")];
        let mut rewriter = Delimiter::of(TYPE).expect("one").rewriter(&values).expect("a value");
        let (mut out, most) = (Vec::new(), rewriter.room() + HEAD_BYTES_MAX + 1_000);
        let pushed = text.as_bytes().chunks(1_000).try_for_each(|piece| {
            rewriter.push(piece, &mut out)?;
            assert!(rewriter.room() <= most, "{}", rewriter.room());
            Ok::<_, BodyError>(())
        });
        assert_eq!(pushed.is_ok(), is_sound);
    }
}

#[test]
fn the_length_is_known_after_the_last_value_and_later_repeats_are_refused() {
    let (key, id) = (path("key"), path("id"));
    let values = [(&key, "s3cret"), (&id, "7")];
    let parts =
        [part("name=\"f\"", "file"), part("name=\"id\"", "-"), part("name=\"key\"", "kwph")];
    let rest = part("name=\"rest\"", "--kw");
    let sound = body(&[&parts[0], &parts[1], &parts[2], &rest]);
    let repeated = body(&[&parts[0], &parts[1], &parts[2], &rest, &part("name=\"ID\"", "8")]);
    let mut lengths = 0;
    for at in 0..sound.len() {
        let (one, two) = sound.split_at(at);
        let rewriter = || Delimiter::of(TYPE).expect("one").rewriter(&values).expect("values");
        let (mut rewriter, mut again) = (rewriter(), rewriter());
        rewriter.refuse_repeated();
        again.refuse_repeated();
        let mut out = Vec::new();
        rewriter.push(one.as_bytes(), &mut out).expect("sound");
        let begins_rest = sound.find("\r\n--kwb\r\nContent-Disposition: form-data; name=\"rest\"");
        let is_settled = at >= begins_rest.expect("a part") + "\r\n--kwb".len();
        let length = rewriter.rest_passes().map(|held| out.len() + held + two.len());
        assert_eq!(length.is_some(), is_settled, "{one:?}");
        rewriter.push(two.as_bytes(), &mut out).expect("sound");
        rewriter.end(&mut out).expect("sound");
        let Some(length) = length else { continue };
        assert_eq!(out.len(), length, "{one:?}");
        lengths += 1;

        again.push(&repeated.as_bytes()[..at], &mut Vec::new()).expect("sound");
        let refused = again.push(&repeated.as_bytes()[at..], &mut Vec::new());
        assert_eq!(refused, Err(BodyError::Repeated("id".into())));
    }
    assert!(lengths > 50, "{lengths}");
}
