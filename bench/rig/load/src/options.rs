//! `--name value` pairs.

use std::collections::HashMap;
use std::fmt::Debug;
use std::str::FromStr;

pub struct Options(HashMap<String, String>);

impl Options {
    pub fn of(args: impl Iterator<Item = String>) -> Self {
        let args: Vec<String> = args.collect();
        let pairs = args.chunks_exact(2);
        Self(pairs.map(|pair| (pair[0].trim_start_matches("--").into(), pair[1].clone())).collect())
    }

    pub fn given(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    pub fn text(&self, name: &str, otherwise: &str) -> String {
        self.given(name).unwrap_or(otherwise).to_owned()
    }

    pub fn number<T: FromStr<Err: Debug>>(&self, name: &str, otherwise: T) -> T {
        self.given(name).map_or(otherwise, |text| text.parse().expect("a number"))
    }
}
