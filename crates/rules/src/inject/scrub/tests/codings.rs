//! Encodes bodies of tests in every coding, as a whole or in pieces that are flushed.

use std::io::Write;

pub(super) const CODINGS: [&str; 5] = ["gzip", "deflate", "bare", "br", "zstd"];

/// Encodes `text`; `bare` is deflate without the zlib header.
pub(super) fn coded(coding: &str, text: &[u8]) -> Vec<u8> {
    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
    match coding {
        "gzip" => {
            let mut encoder = GzEncoder::new(vec![], Compression::default());
            encoder.write_all(text).unwrap();
            encoder.finish().unwrap()
        }
        "deflate" => {
            let mut encoder = ZlibEncoder::new(vec![], Compression::default());
            encoder.write_all(text).unwrap();
            encoder.finish().unwrap()
        }
        "bare" => {
            let mut encoder = DeflateEncoder::new(vec![], Compression::default());
            encoder.write_all(text).unwrap();
            encoder.finish().unwrap()
        }
        "br" => {
            let mut out = vec![];
            let mut encoder = brotli::CompressorWriter::new(&mut out, 4096, 5, 20);
            encoder.write_all(text).unwrap();
            drop(encoder);
            out
        }
        "zstd" => {
            let mut out = vec![0; zstd_safe::compress_bound(text.len())];
            let length = zstd_safe::compress(&mut out[..], text, 3).unwrap();
            out.truncate(length);
            out
        }
        _ => unreachable!("{coding}"),
    }
}

pub(super) fn token(coding: &str) -> &str {
    if coding == "bare" { "deflate" } else { coding }
}

/// Encodes the events and flushes after each.
pub(super) fn flushed(coding: &str, events: &[Vec<u8>]) -> Vec<Vec<u8>> {
    fn each<W: Write>(
        mut encoder: W,
        events: &[Vec<u8>],
        take: impl Fn(&mut W) -> Vec<u8>,
    ) -> Vec<Vec<u8>> {
        let mut pieces = vec![];
        for event in events {
            encoder.write_all(event).unwrap();
            encoder.flush().unwrap();
            pieces.push(take(&mut encoder));
        }
        pieces
    }
    let level = flate2::Compression::default();
    match coding {
        "gzip" => each(flate2::write::GzEncoder::new(vec![], level), events, |encoder| {
            std::mem::take(encoder.get_mut())
        }),
        "br" => each(brotli::CompressorWriter::new(vec![], 4096, 5, 20), events, |encoder| {
            std::mem::take(encoder.get_mut())
        }),
        _ => {
            let mut context = zstd_safe::CCtx::create();
            let one = |event: &Vec<u8>| {
                let mut out = vec![0; 4096];
                let mut sink = zstd_safe::OutBuffer::around(&mut out[..]);
                let mut source = zstd_safe::InBuffer::around(event);
                context.compress_stream(&mut sink, &mut source).unwrap();
                assert_eq!(context.flush_stream(&mut sink).unwrap(), 0);
                let length = sink.pos();
                out.truncate(length);
                out
            };
            events.iter().map(one).collect()
        }
    }
}
