//! `connect:`: how people connect accounts by a link.

use serde_yaml::Value;

use super::reading::ConfigReading;
use keyward_base::connect::ConnectSettings;
use keyward_model::origin_of;

const NAME_CHARS_MAX: usize = 64;

/// Reads `connect:`. Origins are compared as they are kept: in lower case, without path and default port.
pub(super) fn connect(value: Option<&Value>, reading: &mut ConfigReading<'_>) -> ConnectSettings {
    let mut settings = reading.section::<ConnectSettings>(value, "connect").unwrap_or_default();
    for (at, url) in settings.return_urls.iter_mut().enumerate() {
        let has_path = url
            .split_once("://")
            .is_some_and(|(_, rest)| rest.trim_end_matches('/').contains(['/', '?', '#']));
        match origin_of(url).filter(|_| !has_path) {
            Some(origin) => *url = origin,
            None => reading.problems.add(
                &format!("connect.return_urls[{at}]"),
                "this is not the origin of a site",
                "write `https://app.example.com`, without a path; `http://` for localhost only",
            ),
        }
    }
    let name = settings.branding.name.as_deref();
    let is_shown = |name: &str| {
        !name.trim().is_empty()
            && name.chars().count() <= NAME_CHARS_MAX
            && !name.contains(char::is_control)
    };
    if !name.is_none_or(is_shown) {
        let remedy = "write up to 64 printable characters";
        reading.problems.add("connect.branding.name", "this cannot be shown", remedy);
    }
    settings
}
