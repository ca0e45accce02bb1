//! A secret that every test plants as its credential. At the end, the test searches for it in everything that
//! anyone but the origin could read.

use std::fs;
use std::path::Path;
use std::sync::{Mutex, OnceLock};

use aho_corasick::AhoCorasick;
use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use super::wire::find;

/// A random secret and the forms it could leak in.
#[derive(Clone, Debug)]
pub struct Canary {
    /// As it is stored and sent.
    pub text: String,
    needles: Vec<Vec<u8>>,
}

impl Canary {
    /// A fresh one: `prefix` and 128 random bits.
    pub fn new(prefix: &str) -> Self {
        let mut random = [0; 16];
        getrandom::fill(&mut random).expect("randomness");
        Self::of(format!("{prefix}{}", hex(&random)))
    }

    /// A secret that is given; at least eight bytes, or its forms are no sign of it.
    pub fn of(text: String) -> Self {
        assert!(text.len() >= 8, "too short to be looked for");
        Self { needles: needles(&text), text }
    }

    /// Whether the secret is in `bytes` in any of its forms.
    pub fn is_in(&self, bytes: &[u8]) -> bool {
        self.needles.iter().any(|needle| find(bytes, needle).is_some())
    }

    /// # Panics
    /// When the secret is in `bytes` in any of its forms. Says where, never the bytes.
    pub fn assert_absent(&self, place: &str, bytes: &[u8]) {
        for (form, needle) in self.needles.iter().enumerate() {
            if let Some(at) = find(bytes, needle) {
                panic!(
                    "the secret {}… leaked into {place} at byte {at}, form {form}",
                    &self.text[..6]
                );
            }
        }
    }

    /// # Panics
    /// When the secret is in any file below `folder`.
    pub fn assert_absent_below(&self, folder: &Path) {
        in_files(folder, &mut |path, bytes| self.assert_absent(path, bytes));
    }
}

/// Many secrets, looked for in one pass.
pub struct Canaries {
    secrets: Vec<Canary>,
    finder: AhoCorasick,
    /// Whose form each pattern is, and which.
    patterns: Vec<(usize, usize)>,
}

impl Canaries {
    pub fn new(secrets: Vec<Canary>) -> Self {
        let forms = secrets.iter().enumerate();
        let forms = forms.flat_map(|(at, secret)| (0..secret.needles.len()).map(move |n| (at, n)));
        let patterns: Vec<(usize, usize)> = forms.collect();
        let needles = patterns.iter().map(|(at, form)| &secrets[*at].needles[*form]);
        let finder = AhoCorasick::new(needles).expect("few and short");
        Self { finder, patterns, secrets }
    }

    /// As [`Canary::assert_absent`], of all of them.
    pub fn assert_absent(&self, place: &str, bytes: &[u8]) {
        if let Some(found) = self.finder.find(bytes) {
            let (at, form) = self.patterns[found.pattern().as_usize()];
            let (begin, at_byte) = (&self.secrets[at].text[..6], found.start());
            panic!("the secret {begin}… leaked into {place} at byte {at_byte}, form {form}");
        }
    }

    /// As [`Canary::assert_absent_below`].
    pub fn assert_absent_below(&self, folder: &Path) {
        in_files(folder, &mut |path, bytes| self.assert_absent(path, bytes));
    }
}

/// Calls `look` with the name and the bytes of each file below `folder`.
fn in_files(folder: &Path, look: &mut dyn FnMut(&str, &[u8])) {
    for entry in fs::read_dir(folder).expect("the folder can be read") {
        let entry = entry.expect("an entry");
        let path = entry.path();
        // Not what a link leads to: it is elsewhere, and may be a lot.
        if entry.file_type().expect("a kind").is_dir() {
            in_files(&path, look);
        } else if let Ok(bytes) = fs::read(&path) {
            // Sockets cannot be read, and hold nothing.
            look(&path.display().to_string(), &bytes);
        }
    }
}

/// Raw, hex, and what base64 leaves of it at each of the three alignments.
fn needles(text: &str) -> Vec<Vec<u8>> {
    let mut needles = vec![text.as_bytes().to_vec(), hex(text.as_bytes()).into_bytes()];
    for engine in [&BASE64_STANDARD, &BASE64_URL_SAFE] {
        for shift in 0..3 {
            let shifted = format!("{}{text}", "~".repeat(shift));
            let encoded = engine.encode(shifted);
            // The first and last quartets depend on the neighbours.
            let inner = &encoded[4..encoded.len() - 4];
            needles.push(inner.as_bytes().to_vec());
        }
    }
    needles
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Everything that was logged by this process, of all tests in it.
pub fn log() -> &'static Mutex<Vec<u8>> {
    static LOG: OnceLock<Mutex<Vec<u8>>> = OnceLock::new();
    LOG.get_or_init(|| {
        // More than the program logs, but for h2, which would print the debug data of a GOAWAY.
        let targets =
            Targets::new().with_default(LevelFilter::TRACE).with_target("h2", LevelFilter::ERROR);
        let lines = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(|| Capture);
        let capture = tracing_subscriber::registry().with(targets).with(lines).try_init();
        capture.expect("no other subscriber in this process");
        Mutex::default()
    })
}

struct Capture;

impl std::io::Write for Capture {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        log().lock().expect("not poisoned").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
