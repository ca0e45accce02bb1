import { openai } from '@ai-sdk/openai';
import { generateText } from 'ai';

const { text } = await generateText({ model: openai('gpt-4o-mini'), prompt: 'How are you?' });
console.log('answer:', text);
