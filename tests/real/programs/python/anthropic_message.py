from anthropic import Anthropic

message = Anthropic().messages.create(
    model="claude-sonnet-4-5",
    max_tokens=100,
    messages=[{"role": "user", "content": "How are you?"}],
)
print("answer:", message.content[0].text)
