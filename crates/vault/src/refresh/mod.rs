//! Usable credentials: kept in memory, and fetched anew in flights before they expire or when an upstream rejects them.

pub(crate) mod account;
pub(crate) mod app_fetches;
pub(crate) mod backoff;
pub(crate) mod broken;
pub(crate) mod cache;
pub(crate) mod challenge;
pub(crate) mod endpoints;
pub(crate) mod failure_rows;
pub(crate) mod flight;
pub(crate) mod flights;
pub(crate) mod issuer_cache;
pub(crate) mod keep_alive;
pub(crate) mod late;
pub(crate) mod references;
pub(crate) mod referred_apps;
pub(crate) mod rejected;
pub(crate) mod save_again;
pub(crate) mod servers;
pub(crate) mod source_files;
pub(crate) mod source_values;
pub mod ssh;
pub(crate) mod status;
pub(crate) mod token_request;
pub(crate) mod unsaved_tokens;
