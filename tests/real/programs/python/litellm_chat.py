import litellm

response = litellm.completion(
    model="openai/gpt-4o-mini", messages=[{"role": "user", "content": "How are you?"}]
)
print("answer:", response.choices[0].message.content)
