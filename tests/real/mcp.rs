//! An MCP server over streamable HTTP that accepts only the live credential, and holds the client's GET open, with
//! a message in it, as such servers do.

use serde_json::{Value, json};

use crate::api::{END, EVENT_STREAM, chunk, http};
use crate::served::{Service, Takes};
use test_support::Message;

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
        // One message comes, and it does not end.
        let message = json!({
            "jsonrpc": "2.0", "method": "notifications/message",
            "params": { "level": "info", "data": "fi" },
        });
        return [EVENT_STREAM.into(), event(&message)].concat().into_bytes();
    }
    let asked: Value = serde_json::from_slice(&request.body).unwrap_or_default();
    let result = match asked["method"].as_str() {
        Some("initialize") => json!({
            "protocolVersion": asked["params"]["protocolVersion"],
            "capabilities": { "logging": {}, "tools": {} },
            "serverInfo": { "name": "acme", "version": "1.0.0" },
        }),
        Some("tools/call") => json!({ "content": [{ "type": "text", "text": "ne" }] }),
        _ => return http("202 Accepted", "application/json", ""),
    };
    let answer = json!({ "jsonrpc": "2.0", "id": asked["id"], "result": result });
    [EVENT_STREAM.into(), event(&answer), END.into()].concat().into_bytes()
}

/// One message, as a chunk.
fn event(message: &Value) -> String {
    chunk(&format!("event: message\ndata: {message}\n\n"))
}
