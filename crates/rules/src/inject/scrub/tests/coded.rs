//! Tests of [`Inspector`]: it finds needles in every coding and chunking, returns the coded bytes unchanged,
//! and bounds its work.

use std::io::Write;

use http::HeaderMap;
use http::header::{self, HeaderValue};
use proptest::prelude::*;

use super::super::{FlushPoints, InspectError, Inspector};
use super::codings::{CODINGS, coded, flushed, token};
use super::*;

fn inspector(secrets: &[&str], codings: &[&str]) -> Inspector {
    let needles = needles(secrets);
    Inspector::new(&needles, codings.iter().copied(), || FlushPoints::Lines).unwrap().unwrap()
}

fn drain(inspector: &mut Inspector, out: &mut Vec<u8>) -> Result<usize, InspectError> {
    let mut turns = 0;
    loop {
        let more = inspector.work()?;
        turns += 1;
        while let Some(piece) = inspector.cleared() {
            out.extend(piece);
        }
        if !more {
            return Ok(turns);
        }
    }
}

fn run(mut inspector: Inspector, pieces: Vec<Bytes>) -> Result<Vec<u8>, (InspectError, Vec<u8>)> {
    let mut out = vec![];
    let feed = || {
        for piece in pieces {
            inspector.push(piece)?;
            drain(&mut inspector, &mut out)?;
        }
        inspector.end();
        drain(&mut inspector, &mut out)
    };
    match feed() {
        Ok(_) if inspector.is_cut_short() => {
            Err((InspectError::Unscannable("it is cut short"), out))
        }
        Ok(_) => Ok(out),
        Err(fault) => Err((fault, out)),
    }
}

fn bytes_of(text: &[u8]) -> Vec<Bytes> {
    text.iter().map(|byte| Bytes::copy_from_slice(&[*byte])).collect()
}

/// Text for several blocks and steps that does not consist of zeros only.
fn long_text(length: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        b"abcdefgh ,.\n{}:\""[(state >> 28) as usize]
    };
    (0..length).map(|_| next()).collect()
}

/// Tables and lengths at the beginning of a block show whether the secret at its end repeats a guess.
#[test]
fn nothing_of_a_block_that_repeats_the_secret_is_passed_on() {
    let secret = "s3cr3t-0123456789";
    for coding in CODINGS {
        let passed = |guess: &str| {
            let text = [guess.as_bytes(), &long_text(400), secret.as_bytes()].concat();
            let body = coded(coding, &text);
            let pieces = |size: usize| body.chunks(size).map(Bytes::copy_from_slice).collect();
            let outs = [1, 500, body.len()]
                .map(|size| run(inspector(&[secret], &[token(coding)]), pieces(size)).unwrap_err());
            (body.len(), outs)
        };
        let (wrong, right) = (passed("x7Kq-9Fw2Zp!Lm4Ub"), passed("s3cr3t-012345678#"));
        assert!(right.0 < wrong.0, "{coding}: a guess changes the coded length");
        assert_eq!(right.1, wrong.1, "{coding}");
        for (fault, out) in right.1 {
            assert_eq!(fault, InspectError::Echoed);
            assert!(out.len() < 12, "{coding}: {}", out.len());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn a_needle_is_found_in_every_coding_and_chunking(
        (secrets, text, cuts) in confusable(), coding in prop::sample::select(&CODINGS[..]),
    ) {
        let secrets: Vec<&str> = secrets.iter().map(String::as_str).collect();
        let body = coded(coding, &text);
        let expected = match spans(&all_forms(&secrets), &text).is_empty() {
            true => Ok(body.clone()),
            false => Err(InspectError::Echoed),
        };
        let result = run(inspector(&secrets, &[token(coding)]), pieces(&body, &cuts));
        prop_assert_eq!(result.map_err(|(fault, _)| fault), expected.clone());
        let result = run(inspector(&secrets, &[token(coding)]), bytes_of(&body));
        prop_assert_eq!(result.map_err(|(fault, _)| fault), expected);
    }

    /// What is held back could be seen by the agent: it depends on the length of the secret alone.
    #[test]
    fn as_many_bytes_are_held_back_for_another_secret_of_the_same_length(
        (secrets, text, cuts) in confusable(), coding in prop::sample::select(&CODINGS[..]),
    ) {
        let secret = secrets[0].as_str();
        prop_assume!(spans(&all_forms(&[secret]), &text).is_empty());
        let body = coded(coding, &text);
        let lengths = |secret: &str| {
            let mut inspector = inspector(&[secret], &[token(coding)]);
            let cleared = |piece: Bytes| {
                let mut out = vec![];
                inspector.push(piece).unwrap();
                drain(&mut inspector, &mut out).unwrap();
                out.len()
            };
            pieces(&body, &cuts).into_iter().map(cleared).collect::<Vec<usize>>()
        };
        prop_assert_eq!(lengths(secret), lengths(&"z".repeat(secret.len())));
    }

    #[test]
    fn a_needle_is_found_under_two_layered_codings(
        inner in prop::sample::select(&CODINGS[..]), outer in prop::sample::select(&CODINGS[..]),
        at in 0..150_000_usize, planted: bool, cuts in prop::collection::vec(any::<u16>(), 0..30),
    ) {
        let mut text = long_text(150_000);
        if planted {
            text.splice(at..at, SECRET.bytes());
        }
        let body = coded(outer, &coded(inner, &text));
        let result = run(inspector(&[SECRET], &[token(inner), token(outer)]), pieces(&body, &cuts));
        match planted {
            true => prop_assert_eq!(result.unwrap_err().0, InspectError::Echoed),
            false => prop_assert_eq!(result.unwrap(), body),
        }
    }

    #[test]
    fn random_bytes_are_refused(
        // A few bytes may be valid by chance, and in brotli many: an uncompressed block has no checksum.
        body in prop::collection::vec(any::<u8>(), 500..2000), at in 0..3_usize,
    ) {
        let result = run(inspector(&[SECRET], &[["gzip", "deflate", "zstd"][at]]), vec![body.into()]);
        let refused = matches!(result, Err((InspectError::Unscannable(_), _)));
        prop_assert!(refused, "{:?}", result);
    }
}

#[test]
fn bytes_passed_on_before_a_match_do_not_show_the_secret() {
    for coding in CODINGS {
        for at in [0, 1_000, 150_000, 299_999] {
            let mut text = long_text(300_000);
            text.splice(at..at, SECRET.bytes());
            let body = coded(coding, &text);
            let pieces = body.chunks(1000).map(Bytes::copy_from_slice).collect();
            let (fault, out) = run(inspector(&[SECRET], &[token(coding)]), pieces).unwrap_err();
            assert_eq!(fault, InspectError::Echoed, "{coding} {at}");
            // Decoded by another implementation, as far as possible.
            let mut decoded = vec![];
            let mut decoder = super::super::decoder::Decoder::new(
                super::super::decoder::Coding::named(token(coding)).unwrap(),
            )
            .unwrap();
            let (mut rest, mut piece) = (&out[..], vec![0; 1 << 20]);
            while !rest.is_empty() {
                let step = decoder.step(rest, &mut piece).unwrap();
                decoded.extend_from_slice(&piece[..step.produced]);
                rest = &rest[step.consumed..];
            }
            assert!(decoded.len() < at + 8, "{coding} {at}: {}", decoded.len());
            assert!(text.starts_with(&decoded));
        }
    }
}

/// The ends of zstd blocks (RFC 8878 §3.1.1).
fn block_ends(frame: &[u8]) -> Vec<usize> {
    let (descriptor, single) = (frame[4], usize::from(frame[4] >> 5 & 1));
    assert_eq!(descriptor & 3, 0, "no dictionary");
    let mut at = 5 + (1 - single) + [single, 2, 4, 8][usize::from(descriptor >> 6)];
    let mut ends = vec![0, at];
    loop {
        let header = u32::from_le_bytes([frame[at], frame[at + 1], frame[at + 2], 0]);
        at += 3 + if header >> 1 & 3 == 1 { 1 } else { header as usize >> 3 };
        ends.push(at);
        if header & 1 == 1 {
            return ends;
        }
    }
}

#[test]
fn only_whole_zstd_blocks_are_passed_on() {
    let mut text = long_text(500_000);
    text.splice(450_000..450_000, SECRET.bytes());
    let body = coded("zstd", &text);
    let ends = block_ends(&body);
    assert!(ends.len() > 4, "several blocks: {ends:?}");
    let mut inspector = inspector(&[SECRET], &["zstd"]);
    let mut out = vec![];
    for piece in body.chunks(777) {
        inspector.push(Bytes::copy_from_slice(piece)).unwrap();
        if let Err(fault) = drain(&mut inspector, &mut out) {
            assert_eq!(fault, InspectError::Echoed);
            assert!(out.len() > 100_000, "what came long before has gone on");
            return;
        }
        assert!(ends.contains(&out.len()), "{} of {ends:?}", out.len());
    }
    panic!("the secret went through");
}

#[test]
fn each_flushed_event_is_passed_on_at_once() {
    for coding in ["gzip", "br", "zstd"] {
        let mut inspector = inspector(&[SECRET], &[coding]);
        let events: Vec<Vec<u8>> = (0..5).map(|n| format!("data: event {n}\n\n").into()).collect();
        for piece in flushed(coding, &events) {
            inspector.push(piece.clone().into()).unwrap();
            let mut out = vec![];
            drain(&mut inspector, &mut out).unwrap();
            assert_eq!(out, piece, "{coding}");
        }
    }
}

/// After a delimiter of parts nothing is held back, also if a secret begins as it ends.
#[test]
fn each_delimiter_is_passed_on_at_once_even_if_a_secret_may_begin_in_it() {
    let kind = HeaderValue::from_static("multipart/mixed; boundary=graphql");
    let fields = HeaderMap::from_iter([(header::CONTENT_TYPE, kind)]);
    let events = ["{}\r\n--graphql", "--graphql", "\r\n\r\n{}\r\n--graphql"];
    let events = events.map(|event| event.as_bytes().to_vec());
    for secret in ["l--graphql-012345", "zzzzzzzzzzzzzzzzz"] {
        let needles = needles(&[secret]);
        let made =
            Inspector::new(&needles, ["gzip"].into_iter(), || FlushPoints::of(&fields, None));
        let mut inspector = made.unwrap().unwrap();
        for piece in flushed("gzip", &events) {
            inspector.push(piece.clone().into()).unwrap();
            let mut out = vec![];
            drain(&mut inspector, &mut out).unwrap();
            assert_eq!(out, piece, "{secret}");
        }
    }
}

/// Servers leave out the checksum or the last block, or end the body by a flush, and clients accept that.
#[test]
fn a_coded_body_without_its_end_is_passed_on_to_the_last_byte_that_is_decoded() {
    let text = long_text(5_000);
    for coding in CODINGS {
        let whole = coded(coding, &text);
        for length in [2, 10, whole.len() / 2, whole.len() - 8, whole.len() - 4, whole.len() - 1] {
            let body = &whole[..length];
            for pieces in [vec![Bytes::copy_from_slice(body)], bytes_of(body)] {
                match run(inspector(&[SECRET], &[token(coding)]), pieces) {
                    Ok(out) => assert!(out == body && coding != "zstd", "{coding} {length}"),
                    // A part of a block cannot be decoded, and so not searched.
                    Err((fault, out)) => {
                        assert_eq!(
                            (fault, coding),
                            (InspectError::Unscannable("it is cut short"), "zstd")
                        );
                        assert!(block_ends(&whole).contains(&out.len()), "{length}: {}", out.len());
                    }
                }
            }
        }
    }
    for coding in ["gzip", "br", "zstd"] {
        let body =
            flushed(coding, &[b"an event".to_vec(), SECRET.as_bytes()[..9].to_vec()]).concat();
        let out = run(inspector(&[SECRET], &[coding]), vec![body.clone().into()]);
        assert_eq!(out, Ok(body), "{coding}: the beginning of a secret at the end is none");
    }
}

#[test]
fn a_needle_in_a_coded_body_without_its_end_is_found() {
    let text = [&long_text(5_000)[..], SECRET.as_bytes()].concat();
    for coding in ["gzip", "deflate"] {
        let whole = coded(coding, &text);
        let body = Bytes::copy_from_slice(&whole[..whole.len() - 4]);
        let (fault, _) = run(inspector(&[SECRET], &[token(coding)]), vec![body]).unwrap_err();
        assert_eq!(fault, InspectError::Echoed, "{coding}");
    }
    let body = flushed("gzip", &[text]).concat();
    let (fault, _) = run(inspector(&[SECRET], &["gzip"]), vec![body.into()]).unwrap_err();
    assert_eq!(fault, InspectError::Echoed);
}

#[test]
fn a_coded_body_that_is_followed_by_more_bytes_is_refused() {
    for coding in CODINGS {
        let more = [&coded(coding, &long_text(5_000))[..], b"and more"].concat();
        let (fault, _) =
            run(inspector(&[SECRET], &[token(coding)]), vec![more.into()]).unwrap_err();
        assert_eq!(fault, InspectError::Unscannable("it is broken"), "{coding}");
    }
    assert_eq!(run(inspector(&[SECRET], &["gzip"]), vec![]), Ok(vec![]));
}

#[test]
fn a_needle_is_found_across_gzip_members_and_zstd_frames() {
    for coding in ["gzip", "zstd"] {
        let body = [coded(coding, b"one kw/s3cr"), coded(coding, b"two")].concat();
        assert_eq!(run(inspector(&[SECRET], &[coding]), vec![body.clone().into()]), Ok(body));
        let (first, second) = SECRET.split_at(9);
        let body = [coded(coding, first.as_bytes()), coded(coding, second.as_bytes())].concat();
        let (fault, _) = run(inspector(&[SECRET], &[coding]), vec![body.into()]).unwrap_err();
        assert_eq!(fault, InspectError::Echoed, "over the seam of {coding}");
    }
}

/// Tools that write blocks of a fixed size fill the last one. gzip, curl and Python skip these zeros.
#[test]
fn zeros_after_a_gzip_member_are_passed_on_and_nothing_else_with_them() {
    let whole = coded("gzip", &long_text(5_000));
    let zeros = [&whole[..], &[0; 700]].concat();
    for pieces in [vec![Bytes::from(zeros.clone())], bytes_of(&zeros)] {
        assert_eq!(run(inspector(&[SECRET], &["gzip"]), pieces), Ok(zeros.clone()));
    }
    for more in [&b"and more"[..], b"\0\0x"] {
        let body = [&zeros[..], more].concat();
        for pieces in [vec![Bytes::from(body.clone())], bytes_of(&body)] {
            let (fault, _) = run(inspector(&[SECRET], &["gzip"]), pieces).unwrap_err();
            assert!(matches!(fault, InspectError::Unscannable(_)), "{more:?}: {fault:?}");
        }
    }
    let member = [&zeros[..], &coded("gzip", SECRET.as_bytes())].concat();
    let (fault, _) = run(inspector(&[SECRET], &["gzip"]), vec![member.into()]).unwrap_err();
    assert_eq!(fault, InspectError::Echoed, "a member after zeros is read");
    for coding in ["deflate", "br", "zstd"] {
        let body = [&coded(coding, b"text")[..], &[0; 7]].concat();
        assert!(run(inspector(&[SECRET], &[coding]), vec![body.into()]).is_err(), "{coding}");
    }
}

#[test]
fn a_needle_in_the_gzip_header_is_found() {
    let secret = "a-name-of-a-file-0123";
    let mut body = vec![];
    let mut encoder =
        flate2::GzBuilder::new().filename(secret).write(&mut body, flate2::Compression::default());
    encoder.write_all(b"innocent").unwrap();
    encoder.finish().unwrap();
    let (fault, out) = run(inspector(&[secret], &["gzip"]), bytes_of(&body)).unwrap_err();
    assert_eq!(fault, InspectError::Echoed);
    assert!(out.len() < 20, "{}", out.len());
}

#[test]
fn codings_that_are_not_known_or_too_many_are_refused() {
    let needles = needles(&[SECRET]);
    let made =
        |codings: &[&str]| Inspector::new(&needles, codings.iter().copied(), || FlushPoints::Lines);
    for bad in [&["compress"][..], &["dcb"], &["gzip", "sdch"], &["gzip, br"], &["gzip"; 4]] {
        assert!(matches!(made(bad), Err(InspectError::Unscannable(_))), "{bad:?}");
    }
    for plain in [&["identity"][..], &[], &["", " Identity "], &["UTF-8", "aws-chunked"]] {
        assert!(matches!(made(plain), Ok(None)), "{plain:?}");
    }
    assert!(matches!(made(&[" GZIP ", "x-gzip", "br"]), Ok(Some(_))));
}

#[test]
fn a_decompression_bomb_is_inspected_in_turns_and_refused() {
    let zeros = vec![0; 24 << 20];
    for coding in ["br", "zstd"] {
        let body = coded(coding, &zeros);
        assert!(body.len() < 16 * 1024, "{coding}: {}", body.len());
        let mut inspector = inspector(&[SECRET], &[coding]);
        inspector.push(body.into()).unwrap();
        let mut turns = 0;
        let fault = loop {
            match inspector.work() {
                Ok(true) => turns += 1,
                Ok(false) => panic!("{coding}: a bomb went through"),
                Err(fault) => break fault,
            }
        };
        assert_eq!(fault, InspectError::Unscannable("it expands too much"), "{coding}");
        assert!((64..=80).contains(&turns), "{coding}: {turns}");
    }
    // Deflate cannot expand so much: its bombs only take several turns.
    let body = coded("gzip", &zeros);
    let mut gzip = inspector(&[SECRET], &["gzip"]);
    gzip.push(body.clone().into()).unwrap();
    let mut out = vec![];
    assert!(drain(&mut gzip, &mut out).unwrap() >= 24 * 4);
    // Two layers do.
    let twice = coded("gzip", &body);
    let (fault, _) = run(inspector(&[SECRET], &["gzip", "gzip"]), vec![twice.into()]).unwrap_err();
    assert!(matches!(fault, InspectError::Unscannable(_)));
}

#[test]
fn no_more_than_a_block_is_held_back() {
    let text = long_text(700_000);
    for coding in CODINGS {
        let body = coded(coding, &text);
        let mut inspector = inspector(&[SECRET], &[token(coding)]);
        let (mut came, mut out) = (0, vec![]);
        for piece in body.chunks(8192) {
            came += piece.len();
            inspector.push(Bytes::copy_from_slice(piece)).unwrap();
            drain(&mut inspector, &mut out).unwrap();
            // Blocks of brotli are not known apart, unless the input ends with one.
            let most = if coding == "br" { 264 } else { 136 };
            assert!(came - out.len() <= most * 1024, "{coding}: {} of {came}", came - out.len());
        }
        inspector.end();
        drain(&mut inspector, &mut out).unwrap();
        assert_eq!(out, body, "{coding}");
    }
}

#[test]
fn the_memory_of_a_decoder_is_known_and_within_its_maximum() {
    for (coding, least) in
        [("gzip", 32 << 10), ("deflate", 32 << 10), ("br", 64 << 10), ("zstd", 64 << 10)]
    {
        let mut inspector = inspector(&[SECRET], &[coding]);
        let before = inspector.memory();
        let text = "something else, again and again. ".repeat(4_000);
        inspector.push(coded(coding, text.as_bytes()).into()).unwrap();
        while inspector.work().unwrap() {}
        let after = inspector.memory();
        assert!(after >= before && after >= least, "{coding}: {before}, then {after}");
        let most = super::super::decoder::Coding::named(coding).unwrap().memory_max();
        assert!(after <= most && most <= super::super::DECODER_BYTES_MAX, "{coding}: {after}");
    }
}
