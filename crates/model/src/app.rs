//! Apps: OAuth clients that are registered at providers.

mod settings;
mod urls;

pub use settings::AppSettings;
pub use urls::{AppUrls, Registered};
