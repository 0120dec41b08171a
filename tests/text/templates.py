"""Short chat templates of our own, one for each way in which the real families differ."""

from __future__ import annotations

#: Thoughts are cut out of the history, calls are JSON, `enable_thinking` closes the thought.
HYBRID = """
{%- if tools %}
    {{- '<|im_start|>system\\nTools, to be called as <tool_call>{...}</tool_call>:' }}
    {%- for tool in tools %}
        {{- '\\n' ~ (tool | tojson) }}
    {%- endfor %}
    {{- '<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {%- set text = message.content %}
    {%- if message.role == 'user' and text.startswith('<tool_response>') %}
        {{- '<|im_start|>tool\\n' ~ text ~ '<|im_end|>\\n' }}
    {%- elif message.role == 'assistant' %}
        {%- set thought = message.reasoning_content or '' %}
        {%- if '</think>' in text %}
            {%- set thought = text.split('</think>')[0].split('<think>')[-1].strip('\\n') %}
            {%- set text = text.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {{- '<|im_start|>assistant\\n' }}
        {%- if loop.last and thought %}
            {{- '<think>\\n' + thought + '\\n</think>\\n\\n' }}
        {%- endif %}
        {% generation %}{{- text }}{% endgeneration %}
        {%- for call in message.tool_calls or [] %}
            {%- set call = call.function or call %}
            {{- '<tool_call>\\n{"name": "' ~ call.name ~ '", "arguments": ' }}
            {{- call.arguments if call.arguments is string else call.arguments | tojson }}
            {{- '}\\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- elif message.role == 'tool' %}
        {{- '<|im_start|>user\\n<tool_response>\\n' ~ text ~ '\\n</tool_response><|im_end|>\\n' }}
    {%- else %}
        {{- '<|im_start|>' + message.role + '\\n' + text + '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}
"""

#: The prompt always opens the thought.
THINKING = """
{%- for message in messages %}
    {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n<think>\\n' }}
{%- endif %}
"""

#: No thoughts; written with plain template text, a variable and a loop that breaks.
INSTRUCT = """
{%- for message in messages %}
{%- if message.role == 'stop' %}{% break %}{% endif -%}
<|im_start|>{{ message['role'] }}
{{ message['content'] | trim }}{{ eos_token }}
{% endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant
{% endif %}
"""

#: Calls as XML: needs the arguments as a mapping.
CODER = """
{%- for message in messages %}
    {{- '<|im_start|>' + message.role + '\\n' + message.content }}
    {%- for call in message.tool_calls or [] %}
        {%- set call = call.function or call %}
        {{- '<tool_call>\\n<function=' ~ call.name ~ '>' }}
        {%- for name, value in call.arguments | items %}
            {{- '<parameter=' ~ name ~ '>' ~ value ~ '</parameter>' }}
        {%- endfor %}
        {{- '</function>\\n</tool_call>' }}
    {%- endfor %}
    {{- '<|im_end|>\\n' }}
{%- endfor %}
{%- for tool in tools or [] %}
    {%- for key in tool.function %}
        {{- '<' ~ key ~ '>' }}
    {%- endfor %}
{%- endfor %}
{{- '<|im_start|>assistant\\n' if add_generation_prompt else '' }}
"""

OWN = {"own-hybrid": HYBRID, "own-thinking": THINKING, "own-instruct": INSTRUCT, "own-coder": CODER}
