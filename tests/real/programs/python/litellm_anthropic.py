import litellm

response = litellm.completion(
    model="anthropic/claude-sonnet-4-5", messages=[{"role": "user", "content": "How are you?"}]
)
print("answer:", response.choices[0].message.content)
