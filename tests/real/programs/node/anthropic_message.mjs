import Anthropic from '@anthropic-ai/sdk';

const message = await new Anthropic().messages.create({
  model: 'claude-sonnet-4-5',
  max_tokens: 100,
  messages: [{ role: 'user', content: 'How are you?' }],
});
console.log('answer:', message.content[0].text);
