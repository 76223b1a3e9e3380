// OpenAI's own client for Node, as an app would use it. Prints one line of JSON for each thing it did.
// Used by tests/inference/api/test_official_clients.py: BASE_URL and API_KEY come from the environment.
import OpenAI from "openai";

const client = new OpenAI({ baseURL: process.env.BASE_URL, apiKey: process.env.API_KEY, maxRetries: 0 });
const record = JSON.stringify({ age: 71, sex: "female", plan: "rest" });
const messages = [{ role: "user", content: record }];
const note = { model: "default", messages, metadata: { task: "progress_note", purpose: "TREAT" } };
const talk = { model: "default", metadata: { task: "conversation", purpose: "TREAT" } };
const hello = [{ role: "user", content: "Hello." }];
const tool = {
  type: "function",
  function: {
    name: "look_up",
    description: "Look up a code",
    parameters: { type: "object", properties: { code: { type: "string" } }, required: ["code"] },
  },
};
const schema = { type: "object", properties: { level: { enum: ["urgent", "routine"] } }, required: ["level"] };

const asked = {
  async models() {
    return (await client.models.list()).data.map((model) => model.id);
  },
  async chat() {
    const answer = await client.chat.completions.create(note);
    return { text: answer.choices[0].message.content, tokens: answer.usage.total_tokens, receipt: answer.receipt };
  },
  async stream() {
    let text = "";
    let last;
    const options = { ...note, stream: true, stream_options: { include_usage: true } };
    for await (const chunk of await client.chat.completions.create(options)) {
      text += chunk.choices[0]?.delta?.content ?? "";
      last = chunk;
    }
    return { text, tokens: last.usage.total_tokens, receipt: last.receipt };
  },
  async streamHelper() {
    return { text: await client.chat.completions.stream({ ...note }).finalContent() };
  },
  async tools() {
    const answer = await client.chat.completions.create({ ...talk, messages: hello, tools: [tool] });
    const call = answer.choices[0].message.tool_calls[0];
    const next = [...hello, answer.choices[0].message, { role: "tool", tool_call_id: call.id, content: "hypertension" }];
    const after = await client.chat.completions.create({ ...talk, messages: next });
    const finish = answer.choices[0].finish_reason;
    return { name: call.function.name, given: JSON.parse(call.function.arguments), finish, text: after.choices[0].message.content };
  },
  async schema() {
    const format = { type: "json_schema", json_schema: { name: "urgency", schema, strict: true } };
    const answer = await client.chat.completions.parse({ ...talk, messages: hello, response_format: format });
    return { given: JSON.parse(answer.choices[0].message.content) };
  },
  async responses() {
    const answer = await client.responses.create({ ...talk, input: "Hello." });
    return { text: answer.output_text, status: answer.status };
  },
  async refusal() {
    try {
      await client.chat.completions.create({ ...note, chat_template: "x" });
    } catch (error) {
      return { kind: error.constructor.name, code: error.code, param: error.param, status: error.status };
    }
    return {};
  },
  async badKey() {
    try {
      await client.withOptions({ apiKey: "iwk_wrong" }).models.list();
    } catch (error) {
      return { kind: error.constructor.name, code: error.code };
    }
    return {};
  },
};

for (const [name, ask] of Object.entries(asked)) {
  console.log(JSON.stringify({ name, found: await ask() }));
}
