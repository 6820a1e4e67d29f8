"""Private PostgreSQL and RabbitMQ servers, and how to find those that already run.

The program ships these: the demo, the tests and the proof start servers of their own, without an
administrator, and leave nothing running behind. Imports nothing of ours but `domain`.
"""
