import OpenAI from 'openai';

const stream = await new OpenAI().chat.completions.create({
  model: 'gpt-4o-mini',
  messages: [{ role: 'user', content: 'How are you?' }],
  stream: true,
});
let text = '';
for await (const chunk of stream) text += chunk.choices[0].delta.content ?? '';
console.log('answer:', text);
