//! `/upstreams` as JSON.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use keyward_base::host::Target;
use keyward_net::reach::Unreached;

/// A host of a connection, and whether it is reached.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct UpstreamView {
    /// With its port.
    pub host: String,
    /// Whether it answers and proves who it is.
    pub reached: bool,
    /// The corporate proxy that it is reached by; absent: directly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<String>,
    /// What is wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl UpstreamView {
    /// What came of trying it.
    pub fn new(target: &Target, tried: Result<Option<Target>, Unreached>) -> Self {
        let host = target.authority();
        match tried {
            Ok(proxy) => {
                let proxy = proxy.map(|proxy| proxy.to_string());
                Self { host, reached: true, proxy, message: None, hint: None }
            }
            Err(Unreached { message, hint }) => {
                let (message, hint) = (Some(message), Some(hint));
                Self { host, reached: false, proxy: None, message, hint }
            }
        }
    }
}
