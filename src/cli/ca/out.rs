//! `--out FILE`: writes certificates to a file, for containers without a shell that could redirect output.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use crate::cli::failure::Failure;
use crate::cli::output;
use crate::cli::replace_file::replace_file;

/// Certificates are public.
pub(super) const MODE: u32 = 0o644;

/// Where certificates go.
#[derive(Debug, Args)]
pub(crate) struct CertificateOutput {
    /// write to this file, readable by all users, instead of standard output
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

impl CertificateOutput {
    /// Writes `pem` into the file; without one, prints it, or `value` as JSON.
    pub(super) fn give<T: Serialize>(
        &self,
        json: bool,
        value: &T,
        pem: &str,
    ) -> Result<(), Failure> {
        match &self.out {
            None => output::show(json, value, |_| pem.to_owned()),
            Some(file) => replace_file(file, pem.as_bytes(), MODE).map_err(|error| {
                Failure::failed(&format!("cannot write {}", file.display()), &error)
            }),
        }
    }
}
