//! What a private crate says.

fn main() {
    println!("answer: {}", fine::word());
}
