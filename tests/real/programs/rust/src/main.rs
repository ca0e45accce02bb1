//! One call with reqwest, as its documentation makes it.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let models = reqwest::blocking::Client::new()
        .get("https://api.openai.com/v1/models")
        .bearer_auth(std::env::var("OPENAI_API_KEY")?)
        .send()?
        .error_for_status()?
        .text()?;
    let name = models.split("\"data\":[{\"id\":\"").nth(1).and_then(|rest| rest.split('"').next());
    println!("answer: {}", name.unwrap_or(&models));
    Ok(())
}
