from google import genai

response = genai.Client().models.generate_content(
    model="gemini-2.5-flash", contents="How are you?"
)
print("answer:", response.text)
