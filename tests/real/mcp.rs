//! An MCP server over streamable HTTP that takes the live credential alone, and holds the client's
//! GET open as such servers do.

use serde_json::{Value, json};

use crate::api::{EVENT_STREAM, events, http};
use crate::served::{Service, Takes};
use crate::support::Message;

pub(crate) const MCP: Service = Service {
    provider: "acme-mcp",
    own: "{ id: acme-mcp, name: Acme, hosts: [mcp.acme.test], \
          auth: [{ id: token, kind: bearer, env: [ACME_MCP_TOKEN] }] }",
    fields: "{ token: { env: CANARY } }",
    hosts: &["mcp.acme.test"],
    takes: Takes::Field("authorization", "Bearer "),
    answer,
};

fn answer(request: &Message) -> Vec<u8> {
    if request.head.method() == "GET" {
        // Nothing comes, and it does not end.
        return EVENT_STREAM.into();
    }
    let asked: Value = serde_json::from_slice(&request.body).unwrap_or_default();
    let result = match asked["method"].as_str() {
        Some("initialize") => json!({
            "protocolVersion": asked["params"]["protocolVersion"],
            "capabilities": { "tools": {} },
            "serverInfo": { "name": "acme", "version": "1.0.0" },
        }),
        Some("tools/call") => json!({ "content": [{ "type": "text", "text": "fine" }] }),
        _ => return http("202 Accepted", "application/json", ""),
    };
    let answer = json!({ "jsonrpc": "2.0", "id": asked["id"], "result": result });
    events(&format!("event: message\ndata: {answer}\n\n"))
}
